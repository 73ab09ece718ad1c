//! The process under test as the tests see it: what it says, what it uses, and how it ends.

use crate::child::{CONNECTION_TIMEOUT, SETUP};
use party_testing::{eventually, process, until};
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// How long a process may take to start, and for what has no bound of its own, on a loaded machine.
pub(crate) const SOON: Duration = Duration::from_secs(60);
/// What a loaded machine may take on top of a documented bound.
const GRACE: Duration = Duration::from_secs(5);
/// So many threads and file descriptors come and go.
const FEW: usize = 4;
/// In kilobytes. What takes this much is out of hand, and is not to take the machine with it.
const MOST_MEMORY: &str = "4000000";
/// How a call may fail for what a server sends.
const SENSIBLE: [&str; 4] = ["Timeout", "Refused", "NoInstance", "Unhealthy"];

type Lines = Arc<Mutex<Vec<String>>>;

/// A child process, which is killed when this is dropped.
pub(crate) struct Peer {
    process: Child,
    input: Option<ChildStdin>,
    lines: Lines,
    errors: Lines,
    readers: Vec<JoinHandle<()>>,
    pub(crate) rounds: usize,
}

/// What a process holds at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usage {
    pub(crate) threads: usize,
    pub(crate) fds: usize,
    pub(crate) rss: u64,
}

impl Peer {
    pub(crate) fn start(registration: &str, discovery: &str, session_timeout: Duration) -> Peer {
        let limited = format!("ulimit -v {MOST_MEMORY}; exec \"$0\" \"$@\"");
        let mut command = Command::new("sh");
        command
            .args(["-c", &limited])
            .arg(std::env::current_exe().unwrap())
            .args(["child::child", "--exact", "--ignored", "--nocapture"])
            .env(
                SETUP,
                format!("{registration} {discovery} {}", session_timeout.as_millis()),
            )
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let (lines, output) = collect(process.stdout.take().unwrap());
        let (errors, error_output) = collect(process.stderr.take().unwrap());
        let peer = Peer {
            input: process.stdin.take(),
            process,
            lines,
            errors,
            readers: vec![output, error_output],
            rounds: 0,
        };
        peer.await_line(0, "started");
        peer
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    fn say(&mut self, command: &str) -> usize {
        let mark = self.lines.lock().unwrap().len();
        let said = writeln!(self.input.as_mut().unwrap(), "{command}");
        assert!(said.is_ok(), "the process is gone: {}", self.last_words());
        mark
    }

    /// Gives a command and returns the rest of the first line that begins like this.
    pub(crate) fn ask(&mut self, command: &str, answer: &str) -> String {
        let mark = self.say(command);
        self.await_line(mark, answer)
    }

    fn await_line(&self, since: usize, beginning: &str) -> String {
        eventually(&format!("the process says {beginning}"), SOON, || {
            let line = self.line(since, beginning);
            let gone = line.is_none() && process::ended(self.pid());
            assert!(!gone, "the process is gone: {}", self.last_words());
            line
        })
    }

    fn line(&self, since: usize, beginning: &str) -> Option<String> {
        self.said(since, beginning).into_iter().next()
    }

    /// Returns the rest of every line since a mark that begins like this.
    fn said(&self, since: usize, beginning: &str) -> Vec<String> {
        let lines = self.lines.lock().unwrap();
        let these = lines[since..].iter();
        these
            .filter_map(|line| line.strip_prefix(beginning).map(str::to_owned))
            .collect()
    }

    fn last_words(&self) -> String {
        let errors = self.errors.lock().unwrap();
        errors[errors.len().saturating_sub(20)..].join("\n")
    }

    /// Connects both sides, and returns what the calls said.
    pub(crate) fn connect(&mut self) -> Vec<String> {
        let mark = self.say("connect");
        self.await_line(mark, "connected");
        self.check_calls(mark)
    }

    /// Makes every call, and makes sure that each ends within its bound and as it may.
    pub(crate) fn call_all(&mut self) {
        self.rounds += 1;
        let mark = self.say(&format!("calls {}", self.rounds));
        self.await_line(mark, "called");
        self.check_calls(mark);
    }

    /// Checks the calls that were made since a mark, and returns what they said.
    fn check_calls(&self, since: usize) -> Vec<String> {
        let calls = self.said(since, "call ");
        calls.iter().for_each(|call| check_call(call));
        calls
    }

    pub(crate) fn usage(&self) -> Usage {
        let pid = self.pid();
        Usage {
            threads: process::threads(pid),
            fds: process::fds(pid),
            rss: process::rss(pid),
        }
    }

    /// Makes sure that threads and file descriptors are what they were, give or take a few that come and go.
    pub(crate) fn await_flat(&self, before: &Usage) {
        let what = format!("threads and file descriptors are as before: {before:?}");
        until(&what, SOON, || {
            let now = self.usage();
            now.threads <= before.threads + FEW && now.fds <= before.fds + FEW
        });
    }

    /// Checks that every lookup of a known service had an answer.
    pub(crate) fn check_lookups(&mut self) {
        let failed = eventually("something was looked up", SOON, || {
            let counts = self.ask("lookups", "lookups ");
            let (all, failed) = counts.split_once(' ').unwrap();
            (all != "0").then(|| failed.to_owned())
        });
        assert_eq!(failed, "0", "{:?}", self.line(0, "a lookup failed: "));
    }

    /// Has the process disconnect and end, and makes sure that all of that went well.
    pub(crate) fn finish(mut self) {
        drop(self.input.take());
        until("the process ends", SOON, || process::ended(self.pid()));
        let status = self.process.wait().unwrap();
        self.readers
            .drain(..)
            .for_each(|reader| reader.join().unwrap());
        assert!(status.success(), "{status}: {}", self.last_words());
        self.check_calls(0);
        let violations = self.said(0, "violation ");
        assert!(violations.is_empty(), "{violations:#?}");
        let errors = self.errors.lock().unwrap();
        let panicked = errors.iter().find(|line| line.contains("panicked"));
        assert_eq!(panicked, None, "{}", errors.join("\n"));
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Collects lines on a thread that ends with them.
fn collect(output: impl Read + Send + 'static) -> (Lines, JoinHandle<()>) {
    let lines = Lines::default();
    let collected = lines.clone();
    let reader = thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            collected.lock().unwrap().push(line);
        }
    });
    (lines, reader)
}

/// Checks one call, given as its name, the milliseconds that it took, and its outcome.
fn check_call(call: &str) {
    let [name, millis, outcome] = *call.splitn(3, ' ').collect::<Vec<_>>() else {
        panic!("{call}");
    };
    let bound = match name {
        "seen" => Duration::ZERO,
        "healthy" | "disconnect" => Duration::from_secs(1),
        "gated" => CONNECTION_TIMEOUT + Duration::from_secs(1),
        _ => CONNECTION_TIMEOUT,
    };
    let took = Duration::from_millis(millis.parse().unwrap());
    assert!(took <= bound + GRACE, "too late: {call}");
    let kind = outcome.split(':').next().unwrap_or_default();
    let as_it_may = match name {
        "seen" => kind == "ok",
        "healthy" => ["true", "false"].contains(&kind),
        _ => kind == "ok" || SENSIBLE.contains(&kind),
    };
    assert!(as_it_may, "not as it may end: {call}");
}
