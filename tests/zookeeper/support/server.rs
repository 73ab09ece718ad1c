//! Real ZooKeeper servers that a test starts, kills, freezes and starts again.

use super::eventually;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::time::Duration;
use tempfile::TempDir;

const START: Duration = Duration::from_secs(60);

/// Starts java in the background, says its process id, and kills it when this end of the pipe closes: however the
/// test process ends, no server is left behind.
const WRAPPER: &str = r#""$@" >"$LOG" 2>&1 & echo $!; read -r _; kill -KILL $!"#;

/// One server, by itself or of an ensemble.
pub(crate) struct Server {
    directory: TempDir,
    port: u16,
    process: Option<Process>,
}

struct Process {
    wrapper: Child,
    java: String,
}

/// Returns the connection string of the server that tests share who leave it alone.
pub(crate) fn shared() -> &'static str {
    static SHARED: LazyLock<(String, Option<Server>)> =
        LazyLock::new(|| match std::env::var("PARTY_TEST_ZOOKEEPER") {
            Ok(address) => (address, None),
            Err(_) => {
                let server = Server::start();
                (server.address(), Some(server))
            }
        });
    &SHARED.0
}

impl Server {
    /// Starts a server whose shortest session timeout is 1 s.
    pub(crate) fn start() -> Server {
        let server = Server::new(free_port(), 1, "");
        server.started()
    }

    fn new(port: u16, id: usize, more: &str) -> Server {
        let directory = TempDir::with_prefix("party-test-").unwrap();
        let data = directory.path().display();
        let config = format!(
            "tickTime=500\ninitLimit=20\nsyncLimit=10\nmaxClientCnxns=0\nadmin.enableServer=false\n\
             maxSessionTimeout=60000\nclientPortAddress=127.0.0.1\nclientPort={port}\ndataDir={data}\n\
             4lw.commands.whitelist=*\n{more}"
        );
        std::fs::write(directory.path().join("zoo.cfg"), config).unwrap();
        std::fs::write(directory.path().join("myid"), id.to_string()).unwrap();
        let log = "log4j.rootLogger=WARN, out\nlog4j.appender.out=org.apache.log4j.ConsoleAppender\n\
                   log4j.appender.out.layout=org.apache.log4j.SimpleLayout\n";
        std::fs::write(directory.path().join("log4j.properties"), log).unwrap();
        Server {
            directory,
            port,
            process: None,
        }
    }

    fn started(mut self) -> Server {
        self.start_again();
        self
    }

    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Starts the server on its port and data, and waits until it serves.
    pub(crate) fn start_again(&mut self) {
        self.launch();
        self.await_serving();
    }

    fn launch(&mut self) {
        let directory = self.directory.path();
        let logging = format!(
            "-Dlog4j.configuration=file:{}",
            directory.join("log4j.properties").display()
        );
        let java = [
            "java",
            "-Xmx256m",
            "-XX:TieredStopAtLevel=1",
            "-XX:+UseSerialGC",
        ];
        let mut wrapper = Command::new("sh")
            .args(["-c", WRAPPER, "sh"])
            .args(java)
            .args([
                "-Dzookeeper.forceSync=no",
                "-Dzookeeper.jmx.log4j.disable=true",
                &logging,
                "-cp",
                &CLASSPATH,
            ])
            .arg("org.apache.zookeeper.server.quorum.QuorumPeerMain")
            .arg(directory.join("zoo.cfg"))
            .env("LOG", directory.join("log"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let java = first_line(wrapper.stdout.as_mut().unwrap());
        self.process = Some(Process { wrapper, java });
    }

    fn await_serving(&self) {
        let what =
            || std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
        let serving = || self.word("srvr").contains("Mode: ").then_some(());
        let deadline = std::time::Instant::now() + START;
        while serving().is_none() {
            assert!(
                std::time::Instant::now() < deadline,
                "the server does not serve:\n{}",
                what()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Kills the server with SIGKILL.
    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            // Closing the pipe has the wrapper do it, and end.
            drop(process.wrapper.stdin.take());
            process.wrapper.wait().unwrap();
        }
        eventually("the port is free", START, || {
            TcpListener::bind(self.address()).ok()
        });
    }

    /// Stops the server in its tracks: its connections stay open, and nothing answers.
    pub(crate) fn freeze(&self) {
        self.signal("-STOP");
        let java = &self.process.as_ref().unwrap().java;
        let state = || std::fs::read_to_string(format!("/proc/{java}/stat")).unwrap();
        super::until("the server is stopped", START, || state().contains(") T "));
        assert_eq!(
            self.word("srvr"),
            "",
            "a frozen server does not answer, {}",
            state()
        );
    }

    pub(crate) fn thaw(&self) {
        self.signal("-CONT");
    }

    /// Removes everything a server that was killed had stored.
    pub(crate) fn wipe(&self) {
        std::fs::remove_dir_all(self.directory.path().join("version-2")).unwrap();
    }

    /// Runs a server that was killed on another port for a while, where only `f` finds it.
    pub(crate) fn elsewhere(&mut self, f: impl FnOnce(&str)) {
        let file = self.directory.path().join("zoo.cfg");
        let config = std::fs::read_to_string(&file).unwrap();
        let port = std::mem::replace(&mut self.port, free_port());
        let moved = config.replace(
            &format!("clientPort={port}\n"),
            &format!("clientPort={}\n", self.port),
        );
        std::fs::write(&file, moved).unwrap();
        self.start_again();
        f(&self.address());
        self.kill();
        std::fs::write(&file, config).unwrap();
        self.port = port;
    }

    fn signal(&self, signal: &str) {
        let java = &self.process.as_ref().unwrap().java;
        assert!(
            Command::new("kill")
                .args([signal, java])
                .status()
                .unwrap()
                .success()
        );
    }

    /// Says one of ZooKeeper's four-letter words and returns the answer, empty where there is none.
    pub(crate) fn word(&self, word: &str) -> String {
        let mut answer = String::new();
        if let Ok(mut stream) = TcpStream::connect(self.address()) {
            stream
                .set_read_timeout(Some(Duration::from_secs(2)))
                .unwrap();
            let _ = stream
                .write_all(word.as_bytes())
                .and_then(|()| stream.read_to_string(&mut answer).map(drop));
        }
        answer
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Three servers.
pub(crate) struct Ensemble(pub(crate) Vec<Server>);

impl Ensemble {
    pub(crate) fn start() -> Ensemble {
        let peers: Vec<String> = (1..=3)
            .map(|id| format!("server.{id}=127.0.0.1:{}:{}\n", free_port(), free_port()))
            .collect();
        let mut servers: Vec<Server> = (1..=3)
            .map(|id| Server::new(free_port(), id, &peers.concat()))
            .collect();
        servers.iter_mut().for_each(Server::launch);
        servers.iter().for_each(Server::await_serving);
        Ensemble(servers)
    }

    pub(crate) fn connection_string(&self) -> String {
        self.0
            .iter()
            .map(Server::address)
            .collect::<Vec<_>>()
            .join(",")
    }
}

static CLASSPATH: LazyLock<String> = LazyLock::new(|| {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/zookeeper");
    let found = Command::new(script).arg("classpath").output().unwrap();
    let java = Command::new("java").arg("-version").output().is_ok();
    assert!(
        found.status.success() && java,
        "these tests need a ZooKeeper: run `scripts/zookeeper install`, or set ZOOKEEPER_HOME, or run all of it \
         through `scripts/test` ({}{})",
        String::from_utf8_lossy(&found.stderr).trim(),
        if java { "" } else { "; java is missing" }
    );
    String::from_utf8(found.stdout).unwrap().trim().to_owned()
});

fn first_line(stream: impl Read) -> String {
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).unwrap();
    line.trim().to_owned()
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}
