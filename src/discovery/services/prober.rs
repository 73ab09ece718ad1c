//! The thread that brings instances back: it connects to those that refused a connection, and looks after those whose
//! time is over. There is at most one for a directory, and none while there is nothing to do.

use crate::balance::ejection::{Ejections, Random, Reach};
use crate::balance::selection::Key;
use crate::balance::strategy::chance;
use crate::discovery::name::Name;
use crate::discovery::services::notice::Notice;
use crate::discovery::services::probe;
use crate::discovery::services::{State, Subscriptions};
use crate::model::ServiceInstance;
use std::io;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// Time between two connections, so that a large service that is down is not met with a storm of them.
const PAUSE: Duration = Duration::from_millis(10);
/// Time for one connection.
const PATIENCE: Duration = Duration::from_secs(1);
/// The same for an instance that is out while others wait: enough for nearly all, and hosts that swallow connections keep
/// one that is back waiting for less.
const LITTLE_PATIENCE: Duration = Duration::from_millis(250);
/// The part of such connections that has all the time, or an instance that takes longer would never be back.
const PATIENT_PART: f64 = 0.25;
/// The thread ends when there was nothing to do for this long.
const LINGER: Duration = Duration::from_secs(2);

/// Wakes the thread, and starts it where there is none. Returns whether there is one, which after the end of the
/// connection there is not.
pub(crate) fn attend(subscriptions: &Arc<Subscriptions>, state: &mut State) -> io::Result<bool> {
    if subscriptions.is_closed() {
        return Ok(false);
    }
    if state.is_probing {
        subscriptions.attention.notify_all();
        return Ok(true);
    }
    let shared = subscriptions.clone();
    thread::Builder::new()
        .name("party-reprobe".into())
        .spawn(move || run(&shared))?;
    state.is_probing = true;
    Ok(true)
}

/// A connection to be made.
struct Job {
    service: Name,
    key: Key,
    instance: Option<Arc<ServiceInstance>>,
    /// Set where a call just failed, and not a connection of ours a second ago.
    is_suspect: bool,
    patience: Duration,
}

fn run(subscriptions: &Arc<Subscriptions>) {
    let mut after_suspect = false;
    while let Some(job) = next_job(subscriptions, after_suspect) {
        after_suspect = job.is_suspect;
        let resolver = &subscriptions.resolver;
        let instance = job.instance.as_deref();
        let reach = instance.map_or(Reach::Unknown, |it| {
            probe::reach(it, resolver, job.patience)
        });
        if let Some(notice) = take_up(subscriptions, &job, reach) {
            notice.log();
        }
        pause(subscriptions);
    }
}

/// Takes up how a connection went, and publishes what follows.
fn take_up(subscriptions: &Subscriptions, job: &Job, reach: Reach) -> Option<Notice> {
    let (mut state, now) = (subscriptions.state.lock(), Instant::now());
    let service = state.services.get_mut(&job.service)?;
    let ejections = &mut service.ejections;
    let changed = ejections.probed(&job.key, reach, now, &mut chance);
    let instance = job.instance.as_deref().filter(|_| changed);
    let notice = instance.and_then(|it| subscriptions.notice(&mut state, &job.service, it, now));
    // An offer may have ended, too.
    subscriptions.pick_anew(&state, &job.service);
    notice
}

/// Waits for something to connect to. Returns `None` when there is nothing any more.
fn next_job(subscriptions: &Subscriptions, after_suspect: bool) -> Option<Job> {
    let mut state = subscriptions.state.lock();
    let mut idle_since = None;
    loop {
        // First, or instances that are always due would keep the thread for ever.
        if subscriptions.is_closed() {
            state.is_probing = false;
            return None;
        }
        let now = Instant::now();
        if let Some(job) = take_job(subscriptions, &mut state, after_suspect, now, &mut chance) {
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
        if idle_since.is_some_and(|since| now >= since + LINGER) {
            state.is_probing = false;
            return None;
        }
        subscriptions.attention.wait_until(&mut state, until);
    }
}

/// Takes a suspect before one that is out, since calls go to a suspect meanwhile; after one suspect it is the turn of those
/// that are out. Of either it is the one that has waited longest, of all services.
fn take_job(
    subscriptions: &Subscriptions,
    state: &mut State,
    after_suspect: bool,
    now: Instant,
    random: Random<'_>,
) -> Option<Job> {
    let mut changed = Vec::new();
    for (name, service) in &mut state.services {
        if service.ejections.tick(now) {
            changed.push(name.clone());
        }
    }
    changed
        .iter()
        .for_each(|name| subscriptions.pick_anew(state, name));
    let suspect = first(state, |ejections| ejections.first_suspect());
    let due = first(state, |ejections| ejections.first_due(now));
    let is_suspect = suspect.is_some() && !(after_suspect && due.is_some());
    let (service, key) = if is_suspect { suspect } else { due }?;
    let services = state.services.values();
    let waiting: usize = services.map(|one| one.ejections.waiting(now)).sum();
    let view = subscriptions.view.load();
    let instance = view.get(&service).and_then(|snapshot| {
        let mut candidates = snapshot.known.candidates();
        candidates.find(|instance| Key::of(instance) == key)
    });
    Some(Job {
        instance: instance.cloned(),
        service,
        key,
        is_suspect,
        patience: match waiting > 1 && !is_suspect && random() >= PATIENT_PART {
            true => LITTLE_PATIENCE,
            false => PATIENCE,
        },
    })
}

/// Returns what has waited longest of all services.
fn first(
    state: &State,
    waiting: impl Fn(&Ejections<Key>) -> Option<(Instant, &Key)>,
) -> Option<(Name, Key)> {
    let services = state.services.iter();
    let all = services.filter_map(|(name, service)| {
        let (since, key) = waiting(&service.ejections)?;
        Some((since, name, key))
    });
    let (_, name, key) = all.min_by_key(|(since, ..)| *since)?;
    Some((name.clone(), key.clone()))
}

/// Waits for a moment, without missing that the directory is closed.
fn pause(subscriptions: &Subscriptions) {
    let (mut state, until) = (subscriptions.state.lock(), Instant::now() + PAUSE);
    while !subscriptions.is_closed() && Instant::now() < until {
        subscriptions.attention.wait_until(&mut state, until);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::selection::Selection;
    use crate::balance::subset::Identity;
    use crate::config::{Choice, Ejection};
    use crate::discovery::snapshot::Known;

    const SECOND: Duration = Duration::from_secs(1);

    fn instance(id: u32) -> Arc<ServiceInstance> {
        let data = format!(r#"{{"id":"{id}","address":"h","port":1}}"#);
        Arc::new(ServiceInstance::from_json("foo", "node", data.as_bytes()).unwrap())
    }

    fn key(id: u32) -> Key {
        Key::of(&instance(id))
    }

    /// Services of ten instances each, of which the first few are out.
    fn services(out: &[(&str, u32)], now: Instant) -> Subscriptions {
        let selection = Selection::new(&Choice::default(), Identity::random());
        let subscriptions = Subscriptions::new("/i".into(), selection, Ejection::default());
        for (name, count) in out {
            subscriptions.set_subscribed(name, true);
            let known = Known {
                listed: (0..10).map(instance).collect(),
                ..Known::default()
            };
            subscriptions.publish(vec![((*name).into(), Arc::new(known))], &[]);
            let mut state = subscriptions.state.lock();
            let service = state.services.get_mut(*name).unwrap();
            for id in 0..*count {
                assert!(service.ejections.refused(&key(id), now, &mut || 0.5));
            }
        }
        subscriptions
    }

    #[test]
    fn the_end_of_the_connection_comes_before_instances_that_are_due() {
        let subscriptions = services(&[("a", 4)], Instant::now() - 5 * SECOND);
        subscriptions.state.lock().is_probing = true;
        assert!(next_job(&subscriptions, false).is_some());
        subscriptions.close();
        assert!(next_job(&subscriptions, false).is_none());
        assert!(!subscriptions.state.lock().is_probing);
    }

    /// Has each of so many connections take a second and fail, and returns which there were.
    fn swallowed(subscriptions: &Subscriptions, count: u32, now: Instant) -> Vec<Job> {
        drawn(subscriptions, count, now, 0.5)
    }

    /// The same, with this random number.
    fn drawn(subscriptions: &Subscriptions, count: u32, mut now: Instant, random: f64) -> Vec<Job> {
        let (mut state, mut after_suspect) = (subscriptions.state.lock(), false);
        let jobs = (0..count).map(|_| {
            let mut random = || random;
            let job = take_job(subscriptions, &mut state, after_suspect, now, &mut random).unwrap();
            now += SECOND;
            let service = state.services.get_mut(&job.service).unwrap();
            let ejections = &mut service.ejections;
            ejections.probed(&job.key, Reach::Refused, now, &mut || 0.5);
            after_suspect = job.is_suspect;
            job
        });
        jobs.collect()
    }

    #[test]
    fn instances_that_swallow_connections_take_turns_with_all_others() {
        let now = Instant::now();
        let subscriptions = services(&[("a", 4), ("b", 4), ("c", 1)], now);
        let jobs = swallowed(&subscriptions, 27, now + 2 * SECOND);
        for (name, connections) in [("a", 12), ("b", 12), ("c", 3)] {
            let own = jobs.iter().filter(|job| &*job.service == name);
            assert_eq!(own.count(), connections, "{name}");
        }
        assert!(jobs.iter().all(|job| job.instance.is_some()));
    }

    #[test]
    fn no_two_suspects_are_probed_in_a_row_where_others_wait() {
        let now = Instant::now();
        let subscriptions = services(&[("a", 5), ("b", 2)], now);
        let mut state = subscriptions.state.lock();
        for name in ["a", "b"] {
            let service = state.services.get_mut(name).unwrap();
            (5..9).for_each(|id| service.ejections.suspect(&key(id), None, now));
        }
        drop(state);
        let jobs = swallowed(&subscriptions, 16, now + 2 * SECOND);
        let suspects: Vec<bool> = jobs.iter().map(|job| job.is_suspect).collect();
        assert_eq!(suspects, [true, false].repeat(8));
        assert!(
            jobs.iter()
                .all(|job| (job.patience == PATIENCE) == job.is_suspect)
        );
    }

    #[test]
    fn an_instance_that_is_out_alone_has_all_the_time_and_others_now_and_then() {
        let now = Instant::now();
        for (out, random, patience) in [
            (1, 0.9, PATIENCE),
            (2, 0.9, LITTLE_PATIENCE),
            (2, 0.1, PATIENCE),
        ] {
            let jobs = drawn(&services(&[("a", out)], now), 1, now + 2 * SECOND, random);
            assert_eq!(jobs[0].patience, patience, "{out}, {random}");
        }
    }
}
