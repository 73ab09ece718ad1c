//! A Java program with Apache Curator in it, see `Peer.java`.

use party_testing::client::{Client, Kind};
use party_testing::server::shared;
use party_testing::unique;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::LazyLock;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

/// How long Curator may take for anything.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// The program. It is killed on drop, and its session goes when that times out.
pub(crate) struct Peer {
    java: Child,
    stdin: ChildStdin,
    answers: Receiver<Value>,
    events: Receiver<Value>,
}

/// How a peer connects.
pub(crate) struct Session<'a> {
    /// Servers and chroot.
    pub(crate) connection: &'a str,
    /// What is an environment to us.
    pub(crate) namespace: &'a str,
    /// The session timeout.
    pub(crate) millis: u32,
    /// Whether it writes the nine fields only that old readers know, which is Curator's default.
    pub(crate) compatible: bool,
}

impl Peer {
    /// Starts a peer that is not connected.
    pub(crate) fn start() -> Peer {
        let mut java = Command::new("java")
            .args(["-Xmx256m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"])
            .arg("-Dorg.slf4j.simpleLogger.defaultLogLevel=off")
            .args(["-cp", &CLASSPATH, "Peer"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdin = java.stdin.take().unwrap();
        let stdout = BufReader::new(java.stdout.take().unwrap());
        let ((answer, answers), (event, events)) = (channel(), channel());
        std::thread::spawn(move || sort(stdout, &answer, &event));
        Peer {
            java,
            stdin,
            answers,
            events,
        }
    }

    /// Starts a peer that is connected.
    pub(crate) fn connected(connection: &str, namespace: &str) -> Peer {
        let mut peer = Peer::start();
        peer.connect(&Session {
            connection,
            namespace,
            millis: 6000,
            compatible: true,
        });
        peer
    }

    pub(crate) fn connect(&mut self, session: &Session<'_>) {
        self.ask(json!({
            "do": "connect",
            "connection": session.connection,
            "namespace": session.namespace,
            "session_millis": session.millis,
            "compatible": session.compatible,
        }));
    }

    /// Has a command carried out, which must succeed.
    pub(crate) fn ask(&mut self, command: Value) -> Value {
        self.try_ask(&command)
            .unwrap_or_else(|error| panic!("{command}: {error}"))
    }

    /// Has a command carried out.
    pub(crate) fn try_ask(&mut self, command: &Value) -> Result<Value, String> {
        writeln!(self.stdin, "{command}").unwrap();
        let mut answer = self
            .answers
            .recv_timeout(LIMIT)
            .unwrap_or_else(|error| panic!("{command}: no answer: {error}"));
        match answer.get("error") {
            Some(error) => Err(error.to_string()),
            None => Ok(answer["ok"].take()),
        }
    }

    pub(crate) fn register(&mut self, instance: &Value) {
        self.ask(json!({"do": "register", "instance": instance}));
    }

    pub(crate) fn unregister(&mut self, instance: &Value) {
        self.ask(json!({"do": "unregister", "instance": instance}));
    }

    /// Returns what Curator would write.
    pub(crate) fn serialize(&mut self, instance: &Value) -> String {
        let text = self.ask(json!({"do": "serialize", "instance": instance}));
        text.as_str().unwrap().to_owned()
    }

    /// Returns the instances of a service as Curator reads them, in the order of their ids.
    pub(crate) fn query(&mut self, service: &str) -> Vec<Value> {
        list(self.ask(json!({"do": "query", "service": service})))
    }

    /// Waits until the peer's cache of a service that it watches tells of a change after which `done`, and returns all
    /// that it told until then.
    pub(crate) fn await_event(&self, done: impl Fn(&[Value]) -> bool) -> Vec<Vec<Value>> {
        let (deadline, mut told) = (Instant::now() + LIMIT, Vec::new());
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let event = self.events.recv_timeout(left);
            let mut event = event.unwrap_or_else(|_| panic!("no such event, but {told:?}"));
            told.push(list(event["instances"].take()));
            if told.last().is_some_and(|instances| done(instances)) {
                return told;
            }
        }
    }

    /// Ends the program with SIGKILL.
    pub(crate) fn kill(mut self) {
        self.java.kill().unwrap();
        self.java.wait().unwrap();
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.java.kill();
        let _ = self.java.wait();
    }
}

/// Returns places that must be kept apart, as a connection string and a namespace: two namespaces, and the first of them
/// once more below a chroot.
pub(crate) fn places() -> [(String, String); 3] {
    let (one, other) = (unique("one"), unique("other"));
    let chroot = format!("/{}", unique("chroot"));
    let client = Client::connect(shared()).unwrap();
    client.create_all(&chroot, b"", Kind::Persistent).unwrap();
    let (root, below) = (shared().to_owned(), format!("{}{chroot}", shared()));
    [(root.clone(), one.clone()), (root, other), (below, one)]
}

fn sort(stdout: impl BufRead, answers: &Sender<Value>, events: &Sender<Value>) {
    for line in stdout.lines() {
        let Ok(line) = line else { return };
        let mut line: Value =
            serde_json::from_str(&line).unwrap_or_else(|_| json!({ "error": line }));
        let _ = match line.get_mut("event") {
            Some(event) => events.send(event.take()),
            None => answers.send(line),
        };
    }
}

fn list(value: Value) -> Vec<Value> {
    match value {
        Value::Array(list) => list,
        other => panic!("not a list: {other}"),
    }
}

/// The class path of the peer, which is compiled for it.
static CLASSPATH: LazyLock<String> =
    LazyLock::new(|| party_testing::curator::classpath("tests/curator"));
