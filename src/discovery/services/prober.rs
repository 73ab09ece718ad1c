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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::selection::Selection;
    use crate::balance::subset::Identity;
    use crate::config::{Choice, Ejection, RetryBudget};

    const SOON: Duration = Duration::from_secs(20);

    /// Follows services, each with this many instances to probe.
    fn suspecting(services: &[(&str, u16)]) -> Arc<Subscriptions> {
        let (root, now) = ("/test/instances".to_owned(), Instant::now());
        let selection = Selection::new(&Choice::default(), Identity::random());
        let (ejection, budget) = (Ejection::default(), RetryBudget::default());
        let subscriptions = Subscriptions::new(root, selection, ejection, budget);
        let mut state = subscriptions.state.lock();
        for (name, suspects) in services {
            let interest = subscriptions.interest(&mut state, name);
            for port in 1..=*suspects {
                let url = format!("http://h:{port}");
                let endpoint = Endpoint::parse(&url).unwrap().into_owned();
                interest.ejections.suspect(&endpoint, true, now);
            }
            state.prober.services.insert((*name).into());
        }
        drop(state);
        Arc::new(subscriptions)
    }

    #[test]
    fn services_share_the_room_for_probes_and_one_that_needs_less_leaves_the_rest_to_others() {
        for (services, expected) in [
            ([("a", 9), ("b", 9)], [2, 2]),
            ([("a", 1), ("b", 9)], [1, 3]),
        ] {
            let subscriptions = suspecting(&services);
            let mut state = subscriptions.state.lock();
            let targets = due(&subscriptions, &mut state, 4, Instant::now());
            let of_first = targets.iter().filter(|(name, _)| **name == *"a").count();
            assert_eq!([of_first, targets.len() - of_first], expected);
        }
    }

    #[test]
    fn the_thread_ends_after_a_while_without_suspects_and_without_probes_in_flight() {
        let subscriptions = suspecting(&[]);
        let mut now = Instant::now();
        assert!(next(&subscriptions, MOST, &mut now).is_some());
        let long_ago = || Instant::now().checked_sub(LINGER).unwrap();
        assert!(next(&subscriptions, MOST - 1, &mut long_ago()).is_some());
        assert!(next(&subscriptions, MOST, &mut long_ago()).is_none());
    }

    #[test]
    fn the_end_of_the_connection_ends_the_thread_although_a_probe_is_due() {
        let subscriptions = suspecting(&[("a", 1)]);
        let mut probes: Probes<Target> = Probes::new(subscriptions.lookups.clone()).unwrap();
        subscriptions.state.lock().prober.waker = Some(probes.waker());
        subscriptions.close();
        let deadline = Instant::now() + SOON;
        assert!(probes.wait(deadline).is_empty());
        assert!(Instant::now() < deadline, "the thread is woken");
        assert!(next(&subscriptions, MOST, &mut Instant::now()).is_none());
        let mut state = subscriptions.state.lock();
        assert!(!state.prober.is_running());
        let attended = attend(&subscriptions, &mut state, &"a".into());
        assert!(matches!(attended, Ok(false)) && !state.prober.is_running());
    }

    #[test]
    fn without_room_the_thread_waits_for_the_end_of_a_probe() {
        let subscriptions = suspecting(&[("a", 2)]);
        let now = Instant::now();
        let (targets, until) = next(&subscriptions, 1, &mut Instant::now()).unwrap();
        assert_eq!(targets.len(), 1);
        assert!(until >= now + LINGER, "one more is due already");
    }

    #[test]
    fn a_report_wakes_the_thread_only_if_it_sleeps_for_too_long() {
        let subscriptions = suspecting(&[("a", 1)]);
        let mut state = subscriptions.state.lock();
        let mut now = Instant::now();
        for (sleeps_for, is_woken) in [(Duration::ZERO, false), (SOON, true)] {
            now += Duration::from_secs(1);
            let sleeps_until = Some(now + sleeps_for);
            state.prober.sleeps_until = sleeps_until;
            state.remind("a", now);
            assert_eq!(state.prober.sleeps_until != sleeps_until, is_woken);
        }
    }
}
