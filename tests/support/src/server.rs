//! Real ZooKeeper servers that a test starts, kills, freezes and starts again.
//!
//! They listen on loopback, on ports of their own, and keep their data in a directory that goes with them. A server
//! is killed by `drop`, and also when the test process ends in any other way.

mod ensemble;
mod java;

pub use ensemble::Ensemble;

use crate::{eventually, free_port, process, until};
use java::Java;
use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::{Duration, Instant};
use tempfile::TempDir;

const START: Duration = Duration::from_secs(60);
/// How long a four-letter word waits for its answer.
const WORD: Duration = Duration::from_secs(2);

/// How a server is to be.
#[derive(Clone, Debug)]
pub struct Options {
    /// The tick of the server, in milliseconds: a session lives at least two ticks, and expires on one. Defaults to
    /// 500.
    pub tick_millis: u32,
    /// System properties for Java, as in `"znode.container.checkIntervalMs=500"`. Defaults to none.
    pub java_properties: Vec<String>,
    /// More lines for the configuration, as in `"minSessionTimeout=9000"`. Defaults to none.
    pub config: Vec<String>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            tick_millis: 500,
            java_properties: Vec::new(),
            config: Vec::new(),
        }
    }
}

/// One server, by itself or of an [`Ensemble`].
#[derive(Debug)]
pub struct Server {
    // Before the directory, so that nothing writes there any more when that is removed.
    java: Option<Java>,
    directory: TempDir,
    port: u16,
    options: Options,
}

/// Returns the connection string of the server that tests share who leave it alone: the one that the environment
/// variable `TEST_PARTY_ZOOKEEPER` names, else one of this process.
pub fn shared() -> &'static str {
    static SHARED: LazyLock<(String, Option<Server>)> =
        LazyLock::new(|| match std::env::var("TEST_PARTY_ZOOKEEPER") {
            Ok(address) => (address, None),
            Err(_) => {
                let server = Server::start();
                (server.address(), Some(server))
            }
        });
    &SHARED.0
}

impl Server {
    /// Starts a server with the default options, whose shortest session timeout is 1 s, and waits until it serves.
    pub fn start() -> Server {
        Server::with(Options::default())
    }

    /// Starts a server and waits until it serves.
    pub fn with(options: Options) -> Server {
        let mut server = Server::new(1, options, "");
        server.start_again();
        server
    }

    /// Prepares a server; `more` goes into its configuration.
    fn new(id: usize, options: Options, more: &str) -> Server {
        let server = Server {
            java: None,
            directory: TempDir::with_prefix("party-test-").unwrap(),
            port: free_port(),
            options,
        };
        let log = "log4j.rootLogger=ERROR, out\nlog4j.appender.out=org.apache.log4j.ConsoleAppender\n\
                   log4j.appender.out.layout=org.apache.log4j.SimpleLayout\n";
        server.write("log4j.properties", log);
        server.write("myid", &id.to_string());
        server.write("zoo.cfg", &(server.config() + more));
        server
    }

    fn config(&self) -> String {
        let tick = self.options.tick_millis;
        let port = self.port;
        let data = self.directory.path().display();
        let more: String = self
            .options
            .config
            .iter()
            .map(|line| format!("{line}\n"))
            .collect();
        format!(
            "tickTime={tick}\ninitLimit=20\nsyncLimit=10\nmaxClientCnxns=0\nadmin.enableServer=false\n\
             maxSessionTimeout=60000\nclientPortAddress=127.0.0.1\nclientPort={port}\ndataDir={data}\n\
             4lw.commands.whitelist=*\n{more}"
        )
    }

    fn write(&self, name: &str, content: &str) {
        fs::write(self.directory.path().join(name), content).unwrap();
    }

    /// Returns where clients connect, as `127.0.0.1:PORT`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Returns the process id of Java, for [`process`].
    ///
    /// # Panics
    ///
    /// Where the server was killed.
    pub fn pid(&self) -> u32 {
        self.java.as_ref().expect("a server that runs").pid()
    }

    /// Says whether the server was launched and not killed since.
    pub fn is_running(&self) -> bool {
        self.java.is_some()
    }

    /// Starts the server on its port and data, and waits until it serves.
    pub fn start_again(&mut self) {
        self.launch();
        self.await_serving();
    }

    /// Starts the server on its port and data, and returns at once.
    pub fn launch(&mut self) {
        assert!(self.java.is_none(), "the server runs already");
        self.java = Some(Java::start(
            self.directory.path(),
            &self.options.java_properties,
        ));
    }

    /// Waits until a server that was launched serves, and returns when it was first seen to.
    pub fn await_serving(&self) -> Instant {
        let deadline = Instant::now() + START;
        while self.mode().is_none() {
            let alive = !process::ended(self.pid()) && Instant::now() < deadline;
            assert!(alive, "the server does not serve:\n{}", self.log());
            // Finer than elsewhere: the time at which a server serves is what others are measured by.
            std::thread::sleep(Duration::from_millis(3));
        }
        Instant::now()
    }

    /// Returns what the server has logged since it was last launched.
    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    /// Kills the server with SIGKILL, frozen or not, and returns once its port is free.
    pub fn kill(&mut self) {
        drop(self.java.take());
        eventually("the port is free", START, || {
            TcpListener::bind(self.address()).ok()
        });
    }

    /// Stops the server in its tracks: its connections stay open, new ones are accepted by the kernel, and nothing
    /// answers.
    pub fn freeze(&self) {
        process::signal(self.pid(), "-STOP");
        until("the server is stopped", START, || {
            process::stopped(self.pid())
        });
    }

    /// Lets a frozen server go on.
    pub fn thaw(&self) {
        process::signal(self.pid(), "-CONT");
    }

    /// Removes everything a server that was killed had stored.
    pub fn wipe(&self) {
        fs::remove_dir_all(self.data()).unwrap();
    }

    /// Copies everything the server has stored. One that runs is frozen meanwhile.
    pub fn back_up(&self) -> TempDir {
        let copy = TempDir::with_prefix("party-test-").unwrap();
        let frozen = self.is_running().then(|| self.freeze());
        copy_files(&self.data(), copy.path());
        frozen.inspect(|()| self.thaw());
        copy
    }

    /// Sets a server that was killed back to what it had stored when it was backed up.
    pub fn restore(&self, copy: &TempDir) {
        self.wipe();
        fs::create_dir(self.data()).unwrap();
        copy_files(copy.path(), &self.data());
    }

    fn data(&self) -> PathBuf {
        self.directory.path().join("version-2")
    }

    /// Runs a server that was killed on another port for a while, where only `f` finds it.
    pub fn elsewhere(&mut self, f: impl FnOnce(&str)) {
        let port = self.port;
        self.move_to(free_port());
        self.start_again();
        f(&self.address());
        self.kill();
        self.move_to(port);
    }

    fn move_to(&mut self, port: u16) {
        let line = |port| format!("clientPort={port}\n");
        let config = fs::read_to_string(self.directory.path().join("zoo.cfg")).unwrap();
        self.write("zoo.cfg", &config.replace(&line(self.port), &line(port)));
        self.port = port;
    }

    /// Says one of ZooKeeper's four-letter words and returns the answer, empty where there is none.
    pub fn word(&self, word: &str) -> String {
        self.ask(word).unwrap_or_default()
    }

    /// Returns one of the figures that `mntr` lists, as in `zk_packets_received`.
    pub fn figure(&self, name: &str) -> u64 {
        let figures = self.word("mntr");
        let of_name = |line: &str| line.strip_prefix(name)?.strip_prefix('\t')?.parse().ok();
        figures.lines().find_map(of_name).unwrap()
    }

    fn ask(&self, word: &str) -> io::Result<String> {
        let address = SocketAddr::from(([127, 0, 0, 1], self.port));
        let mut stream = TcpStream::connect_timeout(&address, WORD)?;
        stream.set_read_timeout(Some(WORD))?;
        stream.write_all(word.as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }

    /// Returns `standalone`, `leader` or `follower`, and `None` while the server does not serve.
    pub fn mode(&self) -> Option<String> {
        let answer = self.word("srvr");
        let mode = answer.lines().find_map(|line| line.strip_prefix("Mode: "));
        mode.map(str::to_owned)
    }

    /// Returns the ids of the sessions that have a connection to this server.
    pub fn connected_sessions(&self) -> BTreeSet<i64> {
        sessions(&self.word("cons"))
    }

    /// Returns the number of sessions that have not expired, with a connection or without one.
    pub fn sessions(&self) -> u64 {
        self.figure("zk_global_sessions")
    }

    /// Returns the paths of the nodes that connected sessions watch.
    pub fn watched(&self) -> BTreeSet<String> {
        let watches = self.word("wchp");
        let paths = watches.lines().filter(|line| line.starts_with('/'));
        paths.map(str::to_owned).collect()
    }
}

fn copy_files(from: &Path, to: &Path) {
    for file in fs::read_dir(from).unwrap().map(Result::unwrap) {
        fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
}

fn sessions(cons: &str) -> BTreeSet<i64> {
    let ids = cons.split("sid=0x").skip(1);
    ids.filter_map(|rest| rest.split(',').next())
        .map(|id| u64::from_str_radix(id, 16).unwrap() as i64)
        .filter(|id| *id != 0)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::sessions;

    #[test]
    fn the_sessions_are_those_of_connections_that_have_one() {
        let cons = " /127.0.0.1:4[1](queued=0,recved=5,sent=5,sid=0x1000fe2a5d50000,lop=PING,est=1)\n \
                    /127.0.0.1:5[1](queued=0,recved=5,sent=5,sid=0xff00000000000001,lop=PING,est=1)\n \
                    /127.0.0.1:6[0](queued=0,recved=1,sent=0)\n";
        let first = 0x0100_0fe2_a5d5_0000;
        let second = 0xff00_0000_0000_0001_u64 as i64;
        assert_eq!(sessions(cons), [second, first].into());
    }
}
