//! Signals to processes, and what they use: of a server ([`Server::pid`](crate::server::Server::pid)), of a child, or
//! of the test itself (`std::process::id()`).

use std::fs;
use std::process::Command;
use std::sync::LazyLock;
use std::time::Duration;

/// Sends a signal, named as for `kill`: `"-STOP"`, `"-TERM"`.
///
/// # Panics
///
/// Where there is no such process.
pub fn signal(pid: u32, signal: &str) {
    let kill = Command::new("kill")
        .args([signal, &pid.to_string()])
        .status();
    assert!(kill.unwrap().success(), "kill {signal} {pid}");
}

/// Returns the CPU time that a process has used, in user and kernel mode, all threads together.
pub fn cpu_time(pid: u32) -> Duration {
    static TICKS: LazyLock<u32> = LazyLock::new(ticks_per_second);
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let used: u32 = fields(&stat)
        .skip(11)
        .take(2)
        .map(|ticks| ticks.parse::<u32>().unwrap())
        .sum();
    Duration::from_secs(used.into()) / *TICKS
}

/// Returns the number of threads of a process.
pub fn threads(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/task")).unwrap().count()
}

/// Returns the number of open file descriptors of a process; its own count includes the one that counts.
pub fn fds(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

/// Returns the resident memory of a process, in bytes.
pub fn rss(pid: u32) -> u64 {
    memory(pid, "VmRSS:")
}

/// Returns the most resident memory that a process ever had, in bytes.
pub fn peak_rss(pid: u32) -> u64 {
    memory(pid, "VmHWM:")
}

fn memory(pid: u32, what: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(what));
    let kilobytes = line.unwrap().trim().strip_suffix(" kB").unwrap();
    kilobytes.parse::<u64>().unwrap() * 1024
}

/// Says whether every thread of a process is stopped.
pub fn stopped(pid: u32) -> bool {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    tasks.map(Result::unwrap).all(|task| {
        // A thread may end while we look.
        fs::read_to_string(task.path().join("stat"))
            .map_or(true, |stat| fields(&stat).next() == Some("T"))
    })
}

/// Says whether a process has ended, or is a zombie.
pub fn ended(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .map_or(true, |stat| fields(&stat).next() == Some("Z"))
}

/// The fields of a stat file, from the state on: the name before it may hold spaces and parentheses.
fn fields(stat: &str) -> impl Iterator<Item = &str> {
    stat.rsplit_once(')').unwrap().1.split_whitespace()
}

fn ticks_per_second() -> u32 {
    let ticks = Command::new("getconf").arg("CLK_TCK").output().unwrap();
    String::from_utf8(ticks.stdout)
        .unwrap()
        .trim()
        .parse()
        .unwrap()
}
