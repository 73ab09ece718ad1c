//! The thread that brings instances back: it connects to those that refused a connection, and looks after those whose
//! time is over. There is at most one for a directory, and none while there is nothing to do.

use crate::discovery::name::Name;
use crate::discovery::selection::Key;
use crate::discovery::strategy::chance;
use crate::discovery::subscriptions::{State, Subscriptions};
use crate::model::ServiceInstance;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Time between two connections to instances that are out, so that a large service that is down is not met with a storm
/// of them.
const PAUSE: Duration = Duration::from_millis(10);
/// The thread ends when there was nothing to do for this long.
const LINGER: Duration = Duration::from_secs(2);

/// Wakes the thread, and starts it where there is none. Returns whether there is one.
pub(crate) fn attend(subscriptions: &Arc<Subscriptions>, state: &mut State) -> bool {
    if subscriptions.is_closed() {
        return false;
    }
    if state.is_probing {
        subscriptions.attention.notify_all();
        return true;
    }
    let shared = subscriptions.clone();
    let started = thread::Builder::new()
        .name("party-reprobe".into())
        .spawn(move || run(&shared));
    match started {
        Ok(_) => state.is_probing = true,
        Err(error) => log::debug!("nothing is taken out: no thread to bring it back: {error}"),
    }
    state.is_probing
}

/// A connection to be made.
struct Job {
    service: Name,
    key: Key,
    instance: Option<Arc<ServiceInstance>>,
    /// Set where a call just failed, and not a connection of ours a second ago.
    is_suspect: bool,
}

fn run(subscriptions: &Subscriptions) {
    while let Some(job) = next_job(subscriptions) {
        let reached = job.instance.as_deref().and_then(reached);
        let mut state = subscriptions.state.lock();
        let now = Instant::now();
        let changed = state.services.get_mut(&job.service).is_some_and(|service| {
            service
                .ejections
                .probed(&job.key, reached, now, &mut chance)
        });
        if let (true, Some(instance)) = (changed, &job.instance) {
            subscriptions.warn(&mut state, &job.service, instance, now);
            subscriptions.pick_anew(&state, &job.service);
        }
        if !job.is_suspect {
            wait(subscriptions, &mut state, now + PAUSE);
        }
    }
}

/// Waits for something to connect to. Returns `None` when there is nothing any more.
fn next_job(subscriptions: &Subscriptions) -> Option<Job> {
    let mut state = subscriptions.state.lock();
    let mut idle_since = None;
    loop {
        let now = Instant::now();
        if let Some(job) = take_job(subscriptions, &mut state, now) {
            return Some(job);
        }
        let due = state
            .services
            .values()
            .filter_map(|service| service.ejections.next(now))
            .min();
        idle_since = due.is_none().then(|| idle_since.unwrap_or(now));
        let until = due
            .or_else(|| idle_since.map(|since| since + LINGER))
            .unwrap_or(now);
        // Under the lock, so that whoever comes next starts another.
        if subscriptions.is_closed() || idle_since.is_some_and(|since| now >= since + LINGER) {
            state.is_probing = false;
            return None;
        }
        subscriptions.attention.wait_until(&mut state, until);
    }
}

fn take_job(subscriptions: &Subscriptions, state: &mut State, now: Instant) -> Option<Job> {
    let mut changed = Vec::new();
    let mut job = None;
    for (name, service) in &mut state.services {
        if service.ejections.tick(now) {
            changed.push(name.clone());
        }
        if job.is_none() {
            let due = service.ejections.to_probe(1, now).pop();
            job = due.map(|key| (name.clone(), key));
        }
    }
    changed
        .iter()
        .for_each(|name| subscriptions.pick_anew(state, name));
    let (service, key) = job?;
    let view = subscriptions.view.load();
    let mut candidates = view.get(&service)?.known.candidates();
    let instance = candidates
        .find(|instance| Key::of(instance) == key)
        .cloned();
    Some(Job {
        is_suspect: !state.services.get(&service)?.ejections.is_out(&key),
        service,
        key,
        instance,
    })
}

/// Waits without missing that the directory is closed.
fn wait(
    subscriptions: &Subscriptions,
    state: &mut parking_lot::MutexGuard<'_, State>,
    until: Instant,
) {
    while !subscriptions.is_closed() && Instant::now() < until {
        subscriptions.attention.wait_until(state, until);
    }
}

/// Returns whether the instance accepts connections, `None` where that could not be found out.
fn reached(instance: &ServiceInstance) -> Option<bool> {
    let addresses = addresses(instance)?;
    let mut reached = None;
    for address in addresses {
        match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) {
            Ok(_) => return Some(true),
            Err(error) => match error.kind() {
                ErrorKind::ConnectionRefused
                | ErrorKind::HostUnreachable
                | ErrorKind::NetworkUnreachable
                | ErrorKind::TimedOut => reached = Some(false),
                // A lack of our own, such as of file descriptors, says nothing about the other side.
                _ => return None,
            },
        }
    }
    reached
}

/// Resolves the address of an instance. Names take as long as the system's resolver waits for an answer.
fn addresses(instance: &ServiceInstance) -> Option<Vec<SocketAddr>> {
    let port = instance.ssl_port().or(instance.port())?;
    let addresses = (instance.address()?, port).to_socket_addrs().ok()?;
    Some(addresses.take(MOST_ADDRESSES).collect())
}

/// Addresses of one instance that are tried.
const MOST_ADDRESSES: usize = 4;
