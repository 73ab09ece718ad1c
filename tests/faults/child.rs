//! A peer as the campaign sees it: a child process, and the lines it has said.

use crate::peer::Link;
use party_testing::{eventually, process, until};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// How soon threads and file descriptors are to be what they were.
const FLAT_WITHIN: Duration = Duration::from_secs(30);

pub(crate) type Line = (Instant, String);

/// One child process. It is killed when this is dropped.
pub(crate) struct Peer {
    process: Child,
    input: ChildStdin,
    lines: Arc<Mutex<Vec<Line>>>,
}

impl Peer {
    /// Starts a peer, which is then on its way to being ready.
    pub(crate) fn start(role: &str, link: &Link, count: usize) -> Peer {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.arg(format!("--peer-{role}"));
        command.args(link.to_args()).arg(count.to_string());
        Peer::spawn(command)
    }

    pub(crate) fn spawn(mut command: Command) -> Peer {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let (input, output) = (
            process.stdin.take().unwrap(),
            process.stdout.take().unwrap(),
        );
        let lines: Arc<Mutex<Vec<Line>>> = Arc::default();
        let said = lines.clone();
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                said.lock().unwrap().push((Instant::now(), line));
            }
        });
        Peer {
            process,
            input,
            lines,
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    pub(crate) fn mark(&self) -> usize {
        self.lines.lock().unwrap().len()
    }

    pub(crate) fn say(&mut self, command: &str) {
        writeln!(self.input, "{command}").unwrap();
    }

    /// Returns the first line since a mark that begins like this.
    pub(crate) fn line(&self, since: usize, beginning: &str) -> Option<Line> {
        let lines = self.lines.lock().unwrap();
        lines[since..]
            .iter()
            .find(|(_, line)| line.starts_with(beginning))
            .cloned()
    }

    /// Returns how many lines since a mark begin like this.
    pub(crate) fn count(&self, since: usize, beginning: &str) -> usize {
        let lines = self.lines.lock().unwrap();
        let lines = lines[since..].iter();
        lines
            .filter(|(_, line)| line.starts_with(beginning))
            .count()
    }

    pub(crate) fn await_line(&self, since: usize, beginning: &str, limit: Duration) -> Line {
        eventually(&format!("a peer says {beginning}"), limit, || {
            self.line(since, beginning)
        })
    }

    pub(crate) fn await_ready(&self) {
        self.await_line(0, "ready", Duration::from_secs(60));
    }

    /// Returns every line that begins like this, without that.
    pub(crate) fn lines(&self, beginning: &str) -> Vec<Line> {
        let lines = self.lines.lock().unwrap();
        let these = lines
            .iter()
            .filter_map(|(at, line)| Some((*at, line.strip_prefix(beginning)?.to_owned())));
        these.collect()
    }

    /// Waits until the process has ended.
    pub(crate) fn await_end(&mut self, limit: Duration) {
        until("a peer ends", limit, || {
            self.process.try_wait().unwrap().is_some()
        });
    }

    /// Asks for a report and returns its words.
    pub(crate) fn report(&mut self) -> Vec<String> {
        let mark = self.mark();
        self.say("report");
        let (_, line) = self.await_line(mark, "report ", Duration::from_secs(20));
        line.split(' ').skip(1).map(str::to_owned).collect()
    }

    /// Returns what was logged, as level and message.
    pub(crate) fn logged(&self) -> Vec<Line> {
        self.lines("log ")
    }

    pub(crate) fn usage(&self) -> Usage {
        let pid = self.pid();
        Usage {
            threads: process::threads(pid),
            fds: process::fds(pid),
            rss: process::rss(pid),
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What a process holds at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) threads: usize,
    pub(crate) fds: usize,
    pub(crate) rss: u64,
}

impl Usage {
    /// Whether this is no more than another, memory aside.
    fn is_within(&self, other: &Usage) -> bool {
        self.threads <= other.threads && self.fds <= other.fds
    }

    pub(crate) fn are_within(now: &[Usage], others: &[Usage]) -> bool {
        let mut pairs = now.iter().zip(others);
        pairs.all(|(now, other)| now.is_within(other))
    }

    /// Waits until processes hold no more than before, and returns what they hold.
    pub(crate) fn await_flat<const N: usize>(
        before: &[Usage; N],
        now: impl Fn() -> [Usage; N],
    ) -> [Usage; N] {
        let deadline = Instant::now() + FLAT_WITHIN;
        loop {
            let held = now();
            if Usage::are_within(&held, before) || Instant::now() >= deadline {
                return held;
            }
            thread::sleep(Duration::from_millis(100));
        }
    }
}
