//! The limits of the machine that the harness runs on, which must not be blamed on the server.

use std::io;

use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// File handles that the harness needs besides its connections: logs of ids, the table, the terminal.
const RESERVE: u64 = 400;

/// Raises the soft limit of open files to the hard limit, and returns how many connections it allows.
pub fn raise_open_files() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let current = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    // `None` is no limit.
    let files = current.unwrap_or(u64::MAX).saturating_sub(RESERVE).max(1);
    usize::try_from(files).unwrap_or(usize::MAX)
}

/// The limit of this machine that a failed connection ran into, and what to do; `None` if the failure has
/// another cause.
pub fn own_limit(error: &io::Error) -> Option<&'static str> {
    let number = Errno::from_io_error(error)?;
    match number {
        Errno::MFILE => Some("no file handle is left (`ulimit -Hn` is the limit)"),
        Errno::NFILE => Some("the machine has no file handle left (`sysctl fs.file-max`)"),
        Errno::ADDRNOTAVAIL => Some(
            "no local port is left (`sysctl net.ipv4.ip_local_port_range`): use keep-alive connections, \
             or several addresses of the server",
        ),
        Errno::NOBUFS | Errno::NOMEM => Some("the kernel has no memory left for connections"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raises_the_soft_limit_to_the_hard_one() {
        let allowed = raise_open_files();
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(limit.current, limit.maximum);
        assert!(allowed >= 1);
    }

    #[test]
    fn tells_its_own_limits_from_failures_of_the_server() {
        let error = |errno: Errno| io::Error::from(errno);
        assert!(own_limit(&error(Errno::MFILE)).is_some());
        assert!(own_limit(&error(Errno::ADDRNOTAVAIL)).is_some());
        assert!(own_limit(&error(Errno::CONNREFUSED)).is_none());
        assert!(own_limit(&io::Error::other("x")).is_none());
    }
}
