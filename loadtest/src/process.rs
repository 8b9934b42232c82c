//! What the kernel reports about processes and the machine, from `/proc`.

use std::collections::HashSet;
use std::time::Duration;

use procfs::net::TcpState;
use procfs::process::{FDTarget, Process, Stat, all_processes};
use procfs::{Current, CurrentSI, KernelStats, Meminfo};

/// CPU time of a process in user and kernel mode; `None` if it does not exist.
pub fn cpu_time(pid: u32) -> Option<Duration> {
    let stat = stat(pid)?;
    Some(duration_of(stat.utime + stat.stime))
}

/// Anonymous memory of a process, in bytes: what it has allocated, without mapped files.
pub fn rss_anon(pid: u32) -> Option<u64> {
    let kilobytes = process(pid)?.status().ok()?.rssanon?;
    Some(kilobytes * 1024)
}

/// Total memory of this machine, in bytes.
pub fn memory() -> Option<u64> {
    Some(Meminfo::current().ok()?.mem_total)
}

/// Number of open files of a process; `None` if it belongs to another user.
pub fn open_files(pid: u32) -> Option<u64> {
    let count = process(pid)?.fd_count().ok()?;
    Some(count as u64)
}

/// Name of a process, cut to 15 characters.
pub fn name(pid: u32) -> Option<String> {
    Some(stat(pid)?.comm)
}

/// Process ids of a process' children.
pub fn children(pid: u32) -> Vec<u32> {
    let is_child = |stat: &Stat| u32::try_from(stat.ppid) == Ok(pid);
    processes()
        .filter_map(|process| process.stat().ok())
        .filter(is_child)
        .filter_map(|stat| u32::try_from(stat.pid).ok())
        .collect()
}

/// Thread ids of a process.
pub fn threads(pid: u32) -> Vec<u32> {
    let tasks = process(pid).and_then(|process| process.tasks().ok());
    tasks.into_iter().flatten().flatten().filter_map(|task| u32::try_from(task.tid).ok()).collect()
}

/// Process id of the server that listens on a port of this machine, if it belongs to the same user.
pub fn listener(port: u16) -> Option<u32> {
    let sockets: HashSet<u64> = [procfs::net::tcp(), procfs::net::tcp6()]
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.state == TcpState::Listen && entry.local_address.port() == port)
        .map(|entry| entry.inode)
        .collect();
    let is_open_in = |process: &Process| {
        process.fd().into_iter().flatten().flatten().any(|file| match file.target {
            FDTarget::Socket(inode) => sockets.contains(&inode),
            _ => false,
        })
    };
    processes().find(is_open_in).and_then(|process| u32::try_from(process.pid).ok())
}

/// Busy time of all cores of this machine, summed, since it started.
pub fn machine_cpu_time() -> Option<Duration> {
    let total = KernelStats::current().ok()?.total;
    let interrupts = [total.irq, total.softirq, total.steal].into_iter().flatten().sum::<u64>();
    Some(duration_of(total.user + total.nice + total.system + interrupts))
}

fn process(pid: u32) -> Option<Process> {
    Process::new(i32::try_from(pid).ok()?).ok()
}

fn stat(pid: u32) -> Option<Stat> {
    process(pid)?.stat().ok()
}

/// Processes that end meanwhile are left out.
fn processes() -> impl Iterator<Item = Process> {
    all_processes().into_iter().flatten().flatten()
}

fn duration_of(ticks: u64) -> Duration {
    Duration::from_millis(ticks * 1_000 / procfs::ticks_per_second())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_this_process() {
        let pid = std::process::id();
        assert!(cpu_time(pid).is_some());
        assert!(rss_anon(pid).unwrap() > 100_000);
        assert!(rss_anon(pid).unwrap() < memory().unwrap());
        assert!(open_files(pid).unwrap() > 2);
        assert!(threads(pid).contains(&pid));
        assert!(children(std::os::unix::process::parent_id()).contains(&pid));
        assert!(machine_cpu_time().unwrap() > Duration::ZERO);
    }

    #[test]
    fn finds_a_listener_by_its_port() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        assert_eq!(listener(port), Some(std::process::id()));
        drop(socket);
    }
}
