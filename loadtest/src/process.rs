//! What the kernel reports about processes and the machine, from `/proc`.

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::Duration;

/// The unit of CPU time in `/proc`: `USER_HZ` is 100 on every Linux that Rust runs on.
const JIFFY: Duration = Duration::from_millis(10);

/// CPU time of a process in user and kernel mode; `None` if it does not exist.
pub fn cpu_time(pid: u32) -> Option<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    parse_cpu_time(&stat)
}

/// Adds fields 14 and 15, counted from after the name, which may contain any character.
fn parse_cpu_time(stat: &str) -> Option<Duration> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let user: u32 = fields.next()?.parse().ok()?;
    let system: u32 = fields.next()?.parse().ok()?;
    Some(JIFFY * (user + system))
}

/// Anonymous memory of a process, in bytes: what it has allocated, without mapped files.
pub fn rss_anon(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    kilobytes(&status, "RssAnon:").map(|kilobytes| kilobytes * 1024)
}

/// Total memory of this machine, in bytes.
pub fn memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    kilobytes(&text, "MemTotal:").map(|kilobytes| kilobytes * 1024)
}

fn kilobytes(text: &str, name: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(name))?;
    value.split_whitespace().next()?.parse().ok()
}

/// Number of open files of a process; `None` if it belongs to another user.
pub fn open_files(pid: u32) -> Option<u64> {
    let entries = std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
    Some(entries.count() as u64)
}

/// Name of a process, cut to 15 characters.
pub fn name(pid: u32) -> Option<String> {
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    Some(name.trim_end().to_owned())
}

/// Process ids of a process' children.
pub fn children(pid: u32) -> Vec<u32> {
    let parent = |child: &u32| {
        let stat = std::fs::read_to_string(format!("/proc/{child}/stat")).ok()?;
        stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse::<u32>().ok()
    };
    processes().filter(|child| parent(child) == Some(pid)).collect()
}

/// Thread ids of a process.
pub fn threads(pid: u32) -> Vec<u32> {
    numbers(PathBuf::from(format!("/proc/{pid}/task"))).collect()
}

/// Process id of the server that listens on a port of this machine, if it belongs to the same user.
pub fn listener(port: u16) -> Option<u32> {
    let mut sockets = HashSet::new();
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        let text = std::fs::read_to_string(table).unwrap_or_default();
        sockets.extend(listening_inodes(&text, port).map(|inode| format!("socket:[{inode}]")));
    }
    processes().find(|pid| {
        let handles = std::fs::read_dir(format!("/proc/{pid}/fd"));
        handles.into_iter().flatten().flatten().any(|handle| {
            std::fs::read_link(handle.path())
                .is_ok_and(|to| sockets.contains(&*to.to_string_lossy()))
        })
    })
}

/// Inodes of the sockets that listen on a port. Columns 1, 3 and 9 are local address, state, inode.
fn listening_inodes(table: &str, port: u16) -> impl Iterator<Item = &str> {
    const LISTEN: &str = "0A";
    let suffix = format!(":{port:04X}");
    table.lines().skip(1).filter_map(move |line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let listens = fields.get(1)?.ends_with(&suffix) && *fields.get(3)? == LISTEN;
        if listens { fields.get(9).copied() } else { None }
    })
}

fn processes() -> impl Iterator<Item = u32> {
    numbers(PathBuf::from("/proc"))
}

fn numbers(folder: PathBuf) -> impl Iterator<Item = u32> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// Busy time of all cores of this machine, summed, since it started.
pub fn machine_cpu_time() -> Option<Duration> {
    let stat = std::fs::read_to_string("/proc/stat").ok()?;
    // user nice system idle iowait irq softirq steal
    let fields: Vec<u64> = stat
        .lines()
        .next()?
        .split_whitespace()
        .skip(1)
        .map_while(|field| field.parse().ok())
        .collect();
    let busy: u64 = [0, 1, 2, 5, 6, 7].iter().filter_map(|index| fields.get(*index)).sum();
    Some(JIFFY * u32::try_from(busy).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_cpu_time_after_any_name() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194304 1 0 0 0 250 50 0 0 20 0 1 0 5 6 7";
        assert_eq!(parse_cpu_time(stat), Some(Duration::from_secs(3)));
    }

    #[test]
    fn reads_this_process() {
        let pid = std::process::id();
        assert!(cpu_time(pid).is_some());
        assert!(rss_anon(pid).unwrap() > 100_000);
        assert!(open_files(pid).unwrap() > 2);
        assert!(threads(pid).contains(&pid));
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
