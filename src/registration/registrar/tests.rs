//! One connection of the registration side, on the registry inside the process.

use super::*;
use crate::config::Config;
use crate::error::ErrorKind;
use crate::sync::{logged::on_line, until};
use crate::zk::Mode;
use crate::zk::memory::{Registry, Session, registry};

mod changes;

const SOON: Duration = Duration::from_secs(10);
const NODE: &str = "/test/instances/foo/1";

fn connected(name: &str) -> (Arc<Registry>, Registrar) {
    let settings = Config::in_memory(name).resolve(SIDE).unwrap();
    (registry(name), Registrar::connect(settings).unwrap())
}

/// Connects, and registers the service.
fn registered(name: &str) -> (Arc<Registry>, Registrar) {
    let (registry, registrar) = connected(name);
    register(&registrar, &service()).unwrap();
    (registry, registrar)
}

fn service() -> Service {
    Service::new("foo", 1).id("1")
}

fn register(registrar: &Registrar, service: &Service) -> Result<()> {
    registrar.register(&[(service.clone(), "1".into())], None)
}

fn node(registry: &Registry) -> Option<(String, i64)> {
    let nodes = registry.dump();
    let (_, data, owner) = nodes.into_iter().find(|(path, ..)| path == NODE)?;
    Some((String::from_utf8(data).unwrap(), owner))
}

/// Another session, to interfere with.
fn other(name: &str) -> Arc<Session> {
    registry(name).open(Arc::new(|_| {}))
}

#[test]
fn a_registration_returns_after_its_session_expires() {
    let (registry, _registrar) = registered("expires");
    let before = node(&registry).unwrap();
    registry.expire_all();
    until("the node is back under another session", || {
        node(&registry).is_some_and(|now| now.1 != before.1)
    });
    assert_eq!(node(&registry).unwrap().0, before.0);
}

#[test]
fn a_lost_connection_costs_no_write_while_the_session_lives() {
    let (registry, registrar) = registered("no-write");
    let (before, calls) = (node(&registry), registry.calls());
    registry.lose_connections();
    until("the registrar has looked again", || {
        registry.calls().exists > calls.exists
    });
    until("it is connected", || {
        registrar.state() == ConnectionState::Connected
    });
    assert_eq!(node(&registry), before);
    let now = registry.calls();
    assert_eq!(
        (now.create, now.set, now.delete),
        (calls.create, calls.set, calls.delete)
    );
    other("no-write").delete(NODE, -1).unwrap();
    until("the node is watched again", || node(&registry) == before);
}

#[test]
fn a_chroot_that_did_not_exist_is_created_with_one_warning() {
    let (sender, lines) = std::sync::mpsc::channel();
    let _listening = on_line("the chroot /apps/eu did not exist", move |level, line| {
        let _ = sender.send((level, line.to_owned()));
    });
    let connect = || {
        let config = Config::in_memory("x").connection_string("memory:new-chroot/apps/eu");
        Registrar::connect(config.resolve(SIDE).unwrap()).unwrap()
    };
    let one = connect();
    register(&one, &service()).unwrap();
    register(&one, &Service::new("bar", 1)).unwrap();
    let (level, _) = lines.recv_timeout(SOON).unwrap();
    assert_eq!(level, log::Level::Warn);
    register(&connect(), &Service::new("baz", 1)).unwrap();
    assert!(lines.try_recv().is_err(), "it is there now");
}

#[test]
fn a_line_says_what_has_come_and_what_has_left() {
    let (sender, lines) = std::sync::mpsc::channel();
    let _listening = on_line("in /apps/told", move |level, line| {
        if level == log::Level::Info {
            let _ = sender.send(line.to_owned());
        }
    });
    let next = || lines.recv_timeout(SOON).unwrap();
    let config = Config::in_memory("x")
        .connection_string("memory:told/apps")
        .environment("told");
    let registrar = Registrar::connect(config.resolve(SIDE).unwrap()).unwrap();
    register(&registrar, &service()).unwrap();
    assert_eq!(
        next(),
        "registered foo/1 as http://10.0.0.1:1 in /apps/told"
    );
    registrar.unregister(&service()).unwrap();
    assert_eq!(next(), "unregistered foo/1 in /apps/told");
    other("told")
        .create("/apps/told/instances/foo/2", b"", Mode::Persistent)
        .unwrap();
    registrar.unregister(&service().id("2")).unwrap();
    assert_eq!(next(), "unregistered foo/2 in /apps/told");
    let many = |from: usize| {
        let services = (from..from + 11).map(|id| (Service::new("many", 2), id.to_string()));
        services.collect::<Vec<_>>()
    };
    registrar.register(&many(0), None).unwrap();
    assert_eq!(
        next(),
        "registered 11 instances, the first is many/0 as http://10.0.0.1:2 in /apps/told"
    );
    registrar.unregister(&Service::new("many", 2)).unwrap();
    assert!(next().starts_with("unregistered 11 instances, the first is many/"));
    register(&registrar, &Service::secure("bar", 3)).unwrap();
    assert_eq!(
        next(),
        "registered bar/1 as https://10.0.0.1:3 in /apps/told"
    );
    registrar.disconnect(SOON).unwrap();
    assert_eq!(next(), "unregistered bar/1 in /apps/told");
    assert!(lines.try_recv().is_err());
}

#[test]
fn an_id_that_is_none_unregisters_nothing() {
    let (registry, registrar) = registered("bad-ids");
    let (other, below) = (other("bad-ids"), "/test/instances/bar/a/b");
    for path in ["/test/instances/bar", "/test/instances/bar/a", below] {
        other.create(path, b"", Mode::Persistent).unwrap();
    }
    let before = registry.dump();
    for id in ["a/b", "", "..", "a\0"] {
        let service = Service::new("bar", 1).id(id);
        let kind = |error: Error| error.kind();
        let invalid = Some(ErrorKind::InvalidService);
        assert_eq!(registrar.unregister(&service).map_err(kind).err(), invalid);
        let switched = registrar.set_enabled(&service, true);
        assert_eq!(switched.map_err(kind).err(), invalid);
    }
    assert_eq!(registry.dump(), before);
}

#[test]
fn a_node_that_is_deleted_or_overwritten_is_restored() {
    let (registry, _registrar) = registered("restored");
    let before = node(&registry);
    let other = other("restored");
    for _ in 0..10 {
        other.delete(NODE, -1).unwrap();
        until("the deleted node is back", || node(&registry) == before);
        let deletes = registry.calls().delete;
        other.set(NODE, b"overwritten", -1).unwrap();
        until("the data is back", || node(&registry) == before);
        assert_eq!(
            registry.calls().delete,
            deletes,
            "it was not deleted for that"
        );
    }
}

#[test]
fn a_session_that_keeps_taking_our_id_is_not_fought_without_end() {
    let (registry, registrar) = registered("fight");
    let (ours, other) = (node(&registry).unwrap(), other("fight"));
    let take = || {
        other.delete(NODE, -1).unwrap();
        // The registrar may be quicker, with a node that is ours again.
        let _ = other.create(NODE, b"{}", Mode::Ephemeral);
    };
    let given_up = || !registrar.is_registered(NODE);
    let mut taken = 0;
    while taken < 200 && !given_up() {
        take();
        taken += 1;
        until("it is given back, or given up", || {
            node(&registry).as_ref() == Some(&ours) || given_up()
        });
    }
    assert!(taken < 200, "it was given back every time");
    assert_ne!(node(&registry).unwrap().1, ours.1, "the other one keeps it");
    let error = register(&registrar, &service()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    other.end();
    until("it is restored when the other session is gone", || {
        node(&registry).is_some_and(|now| now == ours)
    });
    until("it counts as registered again", || {
        registrar.is_registered(NODE)
    });
}

#[test]
fn a_registration_that_failed_never_appears() {
    let (registry, registrar) = connected("failed");
    registry.outage(true);
    let error = register(&registrar, &service()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    registry.outage(false);
    until("it is connected", || {
        registrar.state() == ConnectionState::Connected
    });
    registrar
        .register(&[(Service::new("after", 1), "2".into())], None)
        .unwrap();
    assert_eq!(node(&registry), None);
}

#[test]
fn nothing_is_kept_of_registrations_that_failed_in_an_outage() {
    let config = Config::in_memory("failed-often").connection_timeout(Duration::from_millis(200));
    let registrar = Registrar::connect(config.resolve(SIDE).unwrap()).unwrap();
    registry("failed-often").outage(true);
    until("the loss is known", || {
        registrar.supervisor.current().is_none()
    });
    for _ in 0..5 {
        let error = register(&registrar, &service()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout);
    }
    let two = [(service(), "1".into()), (service(), "2".into())];
    registrar.register(&two, None).unwrap_err();
    assert!(registrar.desired.is_empty());
}

#[test]
fn a_delete_follows_the_create_of_a_registration_that_has_timed_out() {
    let (registry, registrar) = registered("behind");
    registrar.unregister(&service()).unwrap();
    let before = registry.calls().delete;
    registry.freeze(true);
    let error = register(&registrar, &service()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert_eq!(
        registry.calls().delete,
        before + 1,
        "it does not wait for the answer"
    );
    let again = thread::scope(|scope| {
        let again = scope.spawn(|| register(&registrar, &Service::new("foo", 7).id("1")));
        until("it is registered again", || {
            registrar.desired.is_desired(NODE)
        });
        registry.freeze(false);
        again.join().unwrap()
    });
    again.unwrap();
    let (data, _) = node(&registry).unwrap();
    assert!(data.contains("\"port\":7,"), "{data}");
    assert_eq!(
        registry.calls().delete,
        before + 1,
        "the later one was not deleted"
    );
}

/// Guards against the node of another program that was deleted behind a create that had failed.
#[test]
fn no_delete_follows_if_the_id_is_known_to_be_taken() {
    let (registry, registrar) = registered("behind-taken");
    registrar.unregister(&service()).unwrap();
    let other = other("behind-taken");
    other.create(NODE, b"theirs", Mode::Ephemeral).unwrap();
    let before = registry.calls();
    registry.delay(Duration::from_millis(200));
    let error = register(&registrar, &service()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    let now = registry.calls();
    assert!(
        now.create > before.create && now.delete == before.delete,
        "{now:?}"
    );
    registry.delay(Duration::ZERO);
    registrar
        .register(&[(service(), "2".into())], None)
        .unwrap();
    assert_eq!(node(&registry).unwrap().0, "theirs");
    other.end();
}

#[test]
fn what_was_unregistered_in_an_outage_goes_when_it_ends() {
    let (registry, registrar) = registered("unregistered");
    registry.outage(true);
    assert_eq!(
        registrar.unregister(&service()).unwrap_err().kind(),
        ErrorKind::Timeout
    );
    registry.outage(false);
    until("it is gone", || node(&registry).is_none());
}

#[test]
fn a_refusal_is_reported_at_once_and_what_stood_before_stays() {
    let (registry, registrar) = registered("refused");
    let before = node(&registry).unwrap();
    registry.refuse("/test");
    let error = register(&registrar, &Service::new("foo", 2).id("1")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    registry.allow();
    other("refused").delete(NODE, -1).unwrap();
    until("the first one is restored", || {
        node(&registry).as_ref() == Some(&before)
    });
}

#[test]
fn a_deletion_that_is_refused_is_reported_at_once() {
    let (registry, registrar) = registered("undeletable");
    registry.refuse("/test");
    let began = Instant::now();
    for _ in 0..2 {
        let error = registrar.unregister(&service()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused, "{error:#}");
        assert!(
            error
                .to_string()
                .contains("to unregister /test/instances/foo/1"),
            "{error}"
        );
    }
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    assert!(registrar.is_registered(NODE), "others still find it");
    registry.allow();
    assert!(registrar.unregister(&service()).unwrap());
    assert_eq!(node(&registry), None);
}

#[test]
fn slow_answers_are_waited_for() {
    let (registry, registrar) = connected("slow");
    registry.delay(Duration::from_millis(20));
    register(&registrar, &service()).unwrap();
    assert!(node(&registry).is_some());
}

#[test]
fn no_call_outlasts_a_frozen_registry() {
    let (registry, registrar) = registered("frozen");
    registry.freeze(true);
    let started = Instant::now();
    assert!(!registrar.healthy());
    assert!(registrar.unregister(&service()).is_err());
    assert!(registrar.disconnect(Duration::from_secs(1)).is_err());
    assert!(started.elapsed() < SOON, "{:?}", started.elapsed());
    registry.freeze(false);
    until("the session ends in the background", || {
        node(&registry).is_none()
    });
}

#[test]
fn a_session_that_was_given_up_is_closed_as_soon_as_that_is_possible() {
    let (registry, registrar) = registered("given-up");
    registry.outage(true);
    assert!(registrar.disconnect(Duration::from_secs(1)).is_err());
    assert!(node(&registry).is_some());
    registry.outage(false);
    until("the sessions are closed", || registry.sessions() == 0);
    assert_eq!(node(&registry), None);
}

#[test]
fn disconnecting_leaves_nothing_and_what_comes_after_is_an_error() {
    let (registry, registrar) = registered("disconnected");
    registrar.disconnect(Duration::from_secs(1)).unwrap();
    registrar.disconnect(Duration::from_secs(1)).unwrap();
    assert_eq!(node(&registry), None);
    assert_eq!(
        register(&registrar, &service()).unwrap_err().kind(),
        ErrorKind::NotConnected
    );
}

fn announced(registrar: &Registrar) -> (RegistrationId, Arc<Progress>) {
    let progress = Arc::new(Progress::default());
    let id = registrar.announce(&service(), "1", &progress).unwrap();
    (id, progress)
}

fn kind_of(progress: &Progress) -> ErrorKind {
    progress.wait(Duration::ZERO, "nothing").unwrap_err().kind()
}

#[test]
fn a_pending_registration_is_cancelled_by_unregistering_and_by_a_newer_one() {
    for (name, act) in [
        ("obeys-unregister", None),
        ("obeys-without-id", Some(Service::new("foo", 1))),
        ("obeys-newer", Some(Service::new("foo", 7).id("1"))),
    ] {
        let (registry, registrar) = connected(name);
        let (id, progress) = announced(&registrar);
        match act {
            Some(newer) if newer.id_or_none().is_some() => register(&registrar, &newer).unwrap(),
            Some(service) => assert!(registrar.unregister(&service).unwrap()),
            None => assert!(registrar.unregister(&service()).unwrap()),
        }
        assert_eq!(kind_of(&progress), ErrorKind::Cancelled);
        let before = node(&registry);
        let one = [(service(), "1".into())];
        let error = registrar.register(&one, Some(&id)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Cancelled);
        assert_eq!(node(&registry), before);
        assert_eq!(before.is_some(), name == "obeys-newer");
    }
}

#[test]
fn a_pending_registration_obeys_only_what_names_it_and_is_newer() {
    let (registry, registrar) = connected("obeys-nothing");
    register(&registrar, &Service::new("foo", 7)).unwrap();
    let (older, progress) = announced(&registrar);
    let (newer, _) = announced(&registrar);
    registrar.unregister(&Service::new("foo", 2)).unwrap();
    registrar.unregister(&service().id("2")).unwrap();
    registrar
        .register(&[(service(), "2".into())], None)
        .unwrap();
    for id in [&older, &newer] {
        let one = [(service(), "1".into())];
        registrar.register(&one, Some(id)).unwrap();
        assert!(registrar.has(id));
    }
    assert_eq!(
        kind_of(&progress),
        ErrorKind::Timeout,
        "it was not cancelled"
    );
    assert!(!registrar.has(&older) && node(&registry).is_some());
}

#[test]
fn a_cancelled_registration_is_not_restored_if_a_later_one_fails() {
    let (registry, registrar) = connected("taken-back");
    let (id, _) = announced(&registrar);
    registrar
        .register(&[(service(), "1".into())], Some(&id))
        .unwrap();
    let later = [(Service::new("foo", 7), "1".into())];
    let contents = registrar.contents_of(&later, Instant::now()).unwrap();
    let later = registrar.desired.add(contents, None).unwrap();
    registrar.cancel(&id);
    registrar.roll_back(&later);
    until("it is gone", || node(&registry).is_none());
}

#[test]
fn what_is_missing_above_many_registrations_is_created_once() {
    let (registry, registrar) = connected("created-once");
    let many: Vec<_> = (0..100).map(|n| (service(), n.to_string())).collect();
    registrar.register(&many, None).unwrap();
    let parents = ["/test", "/test/instances", "/test/instances/foo"].len();
    // The node alone, then with its service, and with one more above it.
    let found_missing = 1 + 2 + 3;
    let creates = registry.calls().create;
    assert_eq!(creates, many.len() + parents + found_missing);
}

#[test]
fn a_registration_does_not_wait_for_others_that_are_written_at_the_same_time() {
    let (registry, registrar) = registered("at-once");
    let before = registry.calls().create;
    registry.delay(Duration::from_millis(20));
    let others: Vec<_> = (0..1200)
        .map(|n| (service(), format!("other-{n}")))
        .collect();
    let contents = registrar.contents_of(&others, Instant::now()).unwrap();
    let revisions = registrar.desired.add(contents, None).unwrap();
    registrar.inbox.wake();
    let placed = |revision| {
        registrar
            .desired
            .wait(std::slice::from_ref(revision), Instant::now())
    };
    until("one is placed", || {
        revisions.iter().any(|revision| placed(revision).is_ok())
    });
    assert!(registry.calls().create - before < others.len());
    registry.delay(Duration::ZERO);
}
