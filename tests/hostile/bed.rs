//! Two hostile servers, and a process that has one side of the library connected to each.

use crate::child::{ENVIRONMENT, SEEN};
use crate::peer::{Peer, SOON, Usage};
use party_testing::hostile::{Action, Asked, Hostile};
use party_testing::{process, until};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The session timeout. The reply timeout is a third of it, and twice that at most.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(3);
/// So much more memory than before may be in use, whatever is sent.
const MORE_MEMORY: u64 = 16 << 20;
/// So much CPU time may be used, in percent of one core. That is twice the aim: what is measured is a debug build.
const MOST_CPU: f64 = 60.0;
/// The instances of the service that is there from the beginning.
const INSTANCES: [&str; 2] = ["1", "2"];

/// A process under test and its servers.
pub(crate) struct Bed {
    // Before the servers, so that nothing is left of it when they are gone.
    pub(crate) peer: Peer,
    pub(crate) discovery: Hostile,
    pub(crate) registration: Hostile,
    before: Usage,
    port: u16,
}

/// Returns the path of a node of the service that is there from the beginning.
pub(crate) fn instance(name: &str) -> String {
    format!("/{ENVIRONMENT}/instances/{SEEN}/{name}")
}

impl Bed {
    /// Starts a process whose servers are honest, and has it connected, looking something up and registered.
    pub(crate) fn start() -> Bed {
        Bed::with(TIMEOUT)
    }

    pub(crate) fn with(session_timeout: Duration) -> Bed {
        let mut bed = Bed::unconnected(session_timeout);
        bed.begin();
        bed
    }

    /// Starts a process that has not connected yet.
    pub(crate) fn unconnected(session_timeout: Duration) -> Bed {
        let (registration, discovery) = (Hostile::start(), Hostile::start());
        registration.put(&format!("/{ENVIRONMENT}/instances"), b"");
        let addresses = (registration.address(), discovery.address());
        let peer = Peer::start(&addresses.0, &addresses.1, session_timeout);
        let before = peer.usage();
        let bed = Bed {
            peer,
            discovery,
            registration,
            before,
            port: 1,
        };
        bed.put_port();
        bed
    }

    /// Connects at last, looks something up and registers something.
    pub(crate) fn begin(&mut self) {
        until("both sides are connected", SOON, || {
            let connected = self.peer.connect();
            connected.iter().all(|call| call.ends_with(" ok"))
        });
        self.peer.ask("begin", "begun");
        self.before = self.peer.usage();
    }

    fn put_port(&self) {
        let data = format!(r#"{{"address":"h","port":{}}}"#, self.port);
        for name in INSTANCES {
            self.discovery.put(&instance(name), data.as_bytes());
        }
    }

    /// Changes the instances, of which a dishonest server does not tell by itself.
    pub(crate) fn change(&mut self) {
        self.port += 1;
        self.put_port();
    }

    pub(crate) fn servers(&self) -> [&Hostile; 2] {
        [&self.discovery, &self.registration]
    }

    /// Attacks both sides, and returns once both have met it.
    pub(crate) fn attack(&self, script: impl Fn(&Asked) -> Vec<Action> + Send + Sync + 'static) {
        let script = Arc::new(script);
        for server in self.servers() {
            let script = script.clone();
            server.attack(move |asked| script(asked));
        }
        self.await_attacks();
    }

    /// Waits until both sides have met the attack.
    pub(crate) fn await_attacks(&self) {
        let servers = self.servers();
        servers.iter().for_each(|server| server.await_attacks(1));
    }

    pub(crate) fn behave(&self) {
        self.servers().iter().for_each(|server| server.behave());
    }

    pub(crate) fn end_connections(&self) {
        let servers = self.servers();
        servers.iter().for_each(|server| server.end_connections());
    }

    /// Attacks whatever is asked but words and greetings.
    pub(crate) fn attack_requests(
        &self,
        script: impl Fn(&Asked) -> Vec<Action> + Send + Sync + 'static,
    ) {
        self.attack(on_requests(script));
    }

    /// Makes every call, with something to be found by those that look for something new.
    pub(crate) fn call_all(&mut self) {
        let round = self.peer.rounds + 1;
        let data = br#"{"address":"h","port":1}"#;
        for service in [
            format!("unseen-{round}"),
            format!("unseen-{round}-provided"),
        ] {
            let path = format!("/{ENVIRONMENT}/instances/{service}/1");
            self.discovery.put(&path, data);
        }
        self.peer.call_all();
    }

    /// Has the servers be honest again, makes sure that everything works again, and ends the process.
    pub(crate) fn recover(mut self) {
        let began = Instant::now();
        self.await_working();
        println!("everything works again after {:.1?}", began.elapsed());
        self.peer.check_lookups();
        self.peer.await_flat(&self.before);
        self.peer.finish();
    }

    pub(crate) fn await_working(&mut self) {
        self.behave();
        self.await_answer("state", "(Connected, Connected)");
        self.await_ports();
        self.change();
        self.await_ports();
        let id = format!("back-{}", self.port);
        self.await_answer(&format!("register {id}"), "ok");
        let registered = |id: &str| format!("/{ENVIRONMENT}/instances/ours/{id}");
        for id in [&id, "kept"] {
            let kept = || self.registration.is_kept(&registered(id));
            until(&format!("{id} is registered"), SOON, kept);
        }
    }

    fn await_answer(&mut self, command: &str, expected: &str) {
        let word = format!("{} ", command.split(' ').next().unwrap_or_default());
        let deadline = Instant::now() + SOON;
        loop {
            let answer = self.peer.ask(command, &word);
            if answer == expected {
                return;
            }
            let left = deadline > Instant::now();
            assert!(left, "{command} says {answer}, expected {expected}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits until all instances are as they were last changed.
    pub(crate) fn await_ports(&mut self) {
        let expected = format!("Some({:?})", INSTANCES.map(|_| self.port));
        self.await_answer("ports", &expected);
    }

    /// Makes sure that not much more memory is in use, or ever was, than before the attack.
    pub(crate) fn check_memory(&self) {
        let (before, most) = (self.before.rss, process::peak_rss(self.peer.pid()));
        let more = most.saturating_sub(before);
        println!("at most {} KiB more memory", more >> 10);
        assert!(more <= MORE_MEMORY, "{before} bytes before, {most} at most");
    }

    pub(crate) fn check_flat(&self) {
        self.peer.await_flat(&self.before);
    }

    /// Waits and returns how much CPU time the process uses meanwhile, in percent of one core.
    pub(crate) fn cpu_over(&self, time: Duration) -> f64 {
        let (began, before) = (Instant::now(), process::cpu_time(self.peer.pid()));
        std::thread::sleep(time);
        let used = process::cpu_time(self.peer.pid()) - before;
        let cpu = 100.0 * used.as_secs_f64() / began.elapsed().as_secs_f64();
        println!("{cpu:.0} % of a core");
        cpu
    }
}

pub(crate) fn check_cpu(cpu: f64) {
    assert!(cpu <= MOST_CPU, "{cpu:.0} % of a core");
}

/// Makes a script of one that does not care about words and greetings.
pub(crate) fn on_requests(
    script: impl Fn(&Asked) -> Vec<Action> + Send + Sync + 'static,
) -> impl Fn(&Asked) -> Vec<Action> + Send + Sync + 'static {
    move |asked| match asked.is_request() {
        true => script(asked),
        false => vec![Action::Honest],
    }
}
