//! Threads, files and memory.

use super::*;

const CHILD: &str = "TEST_PARTY_GRANTED_AND_CLOSED";

#[test]
fn a_server_that_grants_and_closes_ten_thousand_times_costs_nothing_that_stays() {
    let child = std::process::Command::new(std::env::current_exe().unwrap())
        .args([
            "zk::session::tests::footprint::child",
            "--exact",
            "--ignored",
            "--nocapture",
        ])
        .env(CHILD, "")
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&child.stderr);
    assert!(
        child.status.success() && stderr.contains("as before"),
        "{stderr}"
    );
}

#[test]
#[ignore = "run by the test before it"]
fn child() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    let server = Server::new();
    let settings = server.settings(TIMEOUT);
    let _running = Running::with(settings, |session| {
        session.backoff = Backoff::new(Duration::ZERO, Duration::ZERO)
    });
    let held = || {
        let count = |what| {
            std::fs::read_dir(format!("/proc/self/{what}"))
                .unwrap()
                .count()
        };
        let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
        let pages: usize = statm.split(' ').nth(1).unwrap().parse().unwrap();
        [count("task"), count("fd"), pages / 256]
    };
    (0..100).for_each(|_| drop(server.granted(TIMEOUT)));
    let before = held();
    (0..10_000).for_each(|_| drop(server.granted(TIMEOUT)));
    let deadline = Instant::now() + SOON;
    let [threads, fds, mebibytes] = before;
    // A connection that is open now, and was not before, has a few.
    let within = |[tasks, files, size]: [usize; 3]| {
        tasks <= threads + 2 && files <= fds + 8 && size <= mebibytes + 4
    };
    while !within(held()) {
        assert!(Instant::now() < deadline, "{before:?} and {:?}", held());
        drop(server.granted(TIMEOUT));
    }
    eprintln!("as before: {:?}", held());
}
