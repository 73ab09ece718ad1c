//! A network between a client and a server that a test can break: a TCP proxy on loopback.
//!
//! ```no_run
//! use party_testing::client::Client;
//! use party_testing::proxy::{Mode, Proxy};
//!
//! let proxy = Proxy::start(party_testing::server::shared());
//! let client = Client::connect(&proxy.address()).unwrap();
//! proxy.set(Mode::SwallowDown);
//! client.exists("/").unwrap_err();
//! proxy.set(Mode::Forward);
//! client.exists("/").unwrap_err();
//! Client::connect(&proxy.address()).unwrap().exists("/").unwrap();
//! ```
//!
//! # Flows
//!
//! A flow is a connection that was accepted. It gets its connection to the target when its client has sent something
//! that is to be delivered; where that fails, the client is reset. What the ends do is passed on like bytes: an end
//! of one is an end for the other, a reset is a reset, and where bytes are thrown away the other end learns nothing.
//!
//! A flow that lost bytes, in whatever direction, is dead once the mode that cost them is over, as if a router had
//! forgotten it: nothing passes any more, and nobody is told. New connections work.

mod flow;

use flow::{Direction, Flow};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, Weak};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// What becomes of the bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// They are delivered.
    #[default]
    Forward,
    /// They are thrown away, in both directions. Connections are accepted.
    Swallow,
    /// What the client sends is thrown away, what the server sends is delivered.
    SwallowUp,
    /// What the server sends is thrown away, what the client sends is delivered.
    SwallowDown,
    /// They are kept back, and delivered when this mode is over.
    Stall,
    /// Watch events are thrown away, everything else is delivered. This makes no flow a dead one: the stream of
    /// replies has no gap that a client could notice.
    DropEvents,
    /// What the server sends is delivered so much later than it came, in its order. Flows stay sound, and many
    /// answers may be on their way.
    Delay(Duration),
    /// The same for the first answer to a client that asks for a session, which grants it. Everything else, four-letter
    /// words among it, is delivered at once.
    DelayGrant(Duration),
    /// Connections are reset as soon as they are accepted. Flows that are there already are not concerned: see
    /// [`reset`](Proxy::reset) for those.
    Refuse,
    /// Connections are accepted and ended at once, as by a load balancer without a living server. Flows that are there
    /// already are not concerned.
    HangUp,
}

/// The proxy. Dropping it resets what it carries.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    network: Arc<Network>,
    acceptor: Option<JoinHandle<()>>,
}

impl Proxy {
    /// Opens a port that leads to `target`, such as `127.0.0.1:2181`, and forwards.
    pub fn start(target: &str) -> Proxy {
        Proxy::at("127.0.0.1:0", target)
    }

    /// Opens this address, such as `127.0.0.2:2181`, leading to `target`, and forwards.
    pub fn at(address: &str, target: &str) -> Proxy {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let network = Arc::new(Network::to(target));
        let accepting = network.clone();
        let acceptor = thread::Builder::new().name("testing-proxy".into());
        let accept = move || accepting.accept(&listener);
        Proxy {
            address,
            network,
            acceptor: Some(acceptor.spawn(accept).unwrap()),
        }
    }

    /// Returns where clients connect, as `127.0.0.1:PORT`.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Changes what becomes of the bytes that are sent from now on, and of those that a stall keeps back.
    pub fn set(&self, mode: Mode) {
        self.network.change(|state| state.mode = mode);
    }

    /// Delays every chunk by so much, in either direction, from now on. What the client sends while one is delayed is
    /// delayed after it, all at once: such a byte takes up to twice as long.
    pub fn delay(&self, delay: Duration) {
        self.network.change(|state| state.delay = delay);
    }

    /// Has new flows lead to another target.
    pub fn retarget(&self, target: &str) {
        self.network
            .change(|state| target.clone_into(&mut state.target));
    }

    /// Resets every flow, at both ends, and returns when they are gone.
    pub fn reset(&self) {
        let mut flows = Vec::new();
        self.network.change(|state| flows.append(&mut state.flows));
        let living = flows.iter().filter_map(|(flow, _)| flow.upgrade());
        living.for_each(|flow| flow.reset());
        for (_, thread) in flows {
            let _ = thread.join();
        }
    }

    /// Returns the number of flows that are open, dead ones among them.
    pub fn connections(&self) -> usize {
        let state = self.network.state();
        let open = |(flow, _): &&Carried| flow.strong_count() > 0;
        state.flows.iter().filter(open).count()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.network.change(|state| state.over = true);
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(self.address);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
        self.reset();
    }
}

/// A flow with its thread, which holds it.
type Carried = (Weak<Flow>, JoinHandle<()>);

/// What all flows share.
#[derive(Debug)]
struct Network {
    state: Mutex<State>,
    /// Told of every change of the state, and of every flow that is reset.
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    mode: Mode,
    delay: Duration,
    target: String,
    flows: Vec<Carried>,
    over: bool,
}

/// What is to become of what was read from one end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Delivered,
    /// Thrown away, and nobody can tell.
    Skipped,
    /// Thrown away, which leaves a gap.
    Lost,
    /// The flow was reset.
    Over,
}

impl Network {
    fn to(target: &str) -> Network {
        let state = State {
            mode: Mode::Forward,
            delay: Duration::ZERO,
            target: target.to_owned(),
            flows: Vec::new(),
            over: false,
        };
        Network {
            state: Mutex::new(state),
            changed: Condvar::new(),
        }
    }

    fn accept(self: &Arc<Network>, listener: &TcpListener) {
        for client in listener.incoming().map_while(Result::ok) {
            let mut state = self.state();
            if state.over {
                return;
            }
            if state.mode == Mode::Refuse {
                flow::reset_on_close(&client);
                continue;
            }
            if state.mode == Mode::HangUp {
                continue;
            }
            state.flows.retain(|(_, thread)| !thread.is_finished());
            state.flows.push(self.carry(client));
        }
    }

    fn carry(self: &Arc<Network>, client: TcpStream) -> Carried {
        let flow = Arc::new(Flow::new(self.clone(), client));
        let weak = Arc::downgrade(&flow);
        let thread = thread::Builder::new().name("testing-flow".into());
        (weak, thread.spawn(move || flow.run()).unwrap())
    }

    /// Says what is to become of what came at that time, after the delay, and after the stall if there is one.
    fn fate(&self, flow: &Flow, direction: Direction, came: Instant, bytes: &[u8]) -> Fate {
        let mut state = self.state();
        loop {
            let due = came + state.delay + flow.delay(state.mode, direction);
            let delay = due.saturating_duration_since(Instant::now());
            if flow.is_over() {
                return Fate::Over;
            } else if state.mode == Mode::Stall {
                state = self.changed.wait(state).unwrap();
            } else if delay > Duration::ZERO {
                state = self.changed.wait_timeout(state, delay).unwrap().0;
            } else {
                return flow.fate(state.mode, direction, bytes);
            }
        }
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state());
        self.changed.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}
