//! The thread that brings ejected instances back. It probes instances that refused a connection, and ends ejections and
//! probations whose time is over. A directory has at most one such thread, and none while there is nothing to do.

use super::notice::Notice;
use super::probe::{MOST, Probes};
use super::{Prober, State, Subscriptions};
use crate::balance::ejection::{Candidate, Reach};
use crate::balance::endpoint::Endpoint;
use crate::balance::strategy::chance;
use crate::discovery::name::Name;
use crate::discovery::snapshot::shown;
use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// The thread ends when there was nothing to do for this long.
const LINGER: Duration = Duration::from_secs(2);

/// An endpoint of a service, to be probed.
type Target = (Name, Endpoint<'static>);

/// Makes the thread look after a service, and starts the thread if it is not running. Returns false after the end of
/// the connection, because no thread is started then.
pub(super) fn attend(
    subscriptions: &Arc<Subscriptions>,
    state: &mut State,
    name: &Name,
) -> io::Result<bool> {
    if subscriptions.is_closed() {
        return Ok(false);
    }
    if state.prober.waker.is_none() {
        let probes = Probes::new(subscriptions.lookups.clone())?;
        let (shared, waker) = (subscriptions.clone(), probes.waker());
        thread::Builder::new()
            .name("party-reprobe".into())
            .spawn(move || run(&shared, probes))?;
        state.prober.waker = Some(waker);
    }
    state.prober.services.insert(name.clone());
    Ok(true)
}

fn run(subscriptions: &Subscriptions, mut probes: Probes<Target>) {
    let mut idle_since = Instant::now();
    while let Some((targets, until)) = next(subscriptions, probes.room(), &mut idle_since) {
        let now = Instant::now();
        for target in targets {
            let endpoint = target.1.clone();
            probes.begin(target, &endpoint, now);
        }
        let finished = probes.wait(until);
        if !finished.is_empty() {
            let notices = record(subscriptions, finished);
            notices.into_iter().for_each(Notice::log);
        }
    }
}

/// Returns the endpoints to probe now, and the time at which to look again at the latest. Returns `None` when the
/// thread has to end.
fn next(
    subscriptions: &Subscriptions,
    room: usize,
    idle_since: &mut Instant,
) -> Option<(Vec<Target>, Instant)> {
    let (mut state, now) = (subscriptions.state.lock(), Instant::now());
    // Checked first, because some instance may always be due, and the end of the connection has to end the thread
    // nevertheless. The state is locked, so no report is lost: the next report finds no thread and starts another.
    let is_idle = state.prober.services.is_empty() && room == MOST;
    if subscriptions.is_closed() || (is_idle && now >= *idle_since + LINGER) {
        state.prober = Prober::default();
        return None;
    }
    let targets = due(subscriptions, &mut state, room, now);
    if !is_idle {
        *idle_since = now;
    }
    let due = earliest(&state, now).unwrap_or(*idle_since + LINGER);
    let until = match targets.len() < room {
        true => due,
        // There is no room for the endpoints that are due already. A probe that ends makes room, and wakes this thread.
        false => due.max(now + LINGER),
    };
    state.prober.sleeps_until = Some(until);
    Some((targets, until))
}

/// Ends ejections and probations whose time is over. Returns at most `room` endpoints to probe, and each service has
/// the same share of the room.
fn due(subscriptions: &Subscriptions, state: &mut State, room: usize, now: Instant) -> Vec<Target> {
    let names: Vec<Name> = state.prober.services.iter().cloned().collect();
    let mut targets = Vec::new();
    for (index, name) in names.iter().enumerate() {
        let Some(service) = state.services.get_mut(name) else {
            state.prober.services.remove(name);
            continue;
        };
        let ejections = &mut service.ejections;
        let is_changed = ejections.tick(now);
        // Rounded up. Room that one service does not need is for the next.
        let share = (room - targets.len()).div_ceil(names.len() - index);
        let due = ejections.take_due(share, now);
        targets.extend(due.into_iter().map(|endpoint| (name.clone(), endpoint)));
        if ejections.next(now).is_none() {
            state.prober.services.remove(name);
        }
        if is_changed {
            subscriptions.pick_anew(state, name);
        }
    }
    targets
}

/// Returns when something is due next.
fn earliest(state: &State, now: Instant) -> Option<Instant> {
    let services = state.prober.services.iter();
    let due = services.filter_map(|name| state.services.get(name)?.ejections.next(now));
    due.min()
}

/// Records the results of probes, and publishes each changed service once.
fn record(subscriptions: &Subscriptions, finished: Vec<(Target, Reach)>) -> Vec<Notice> {
    let (mut state, now) = (subscriptions.state.lock(), Instant::now());
    let (mut notices, mut changed) = (Vec::new(), BTreeSet::new());
    let view = subscriptions.view.load();
    for ((name, endpoint), reach) in finished {
        let Some(service) = state.services.get_mut(&name) else {
            continue;
        };
        let instance = || shown(&view, &name)?.known.candidate_at(&endpoint);
        let listed = || instance().and_then(|instance| Candidate::of(instance));
        let ejections = &mut service.ejections;
        let is_changed = ejections.probed(&endpoint, reach, listed, now, &mut chance);
        if ejections.next(now).is_some() {
            state.prober.services.insert(name.clone());
        }
        if is_changed {
            let instance = instance().cloned();
            let notice = instance.and_then(|it| subscriptions.notice(&state, &name, &it));
            notices.extend(notice);
            changed.insert(name);
        }
    }
    changed
        .iter()
        .for_each(|name| subscriptions.pick_anew(&state, name));
    notices
}
