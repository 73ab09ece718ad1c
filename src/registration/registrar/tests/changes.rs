//! Updates and switches, by the program and by others who edit a node.

use super::*;

/// The end of the node of an instance that is switched off.
const OFF: &str = r#","enabled":false}"#;

fn payload(service: &Service, payload: &str) -> Service {
    service.clone().payload(payload.into())
}

fn holds(registry: &Registry, text: &str) -> bool {
    node(registry).is_some_and(|(data, _)| data.contains(text))
}

fn switched_off(data: &str) -> String {
    data.replacen("null}", &format!("null{OFF}"), 1)
}

#[test]
fn an_update_is_written_in_place_and_kept() {
    let (registry, registrar) = registered("update");
    let (before, calls) = (node(&registry).unwrap(), registry.calls());
    for n in 0..50 {
        registrar
            .update(&payload(&service(), &format!("update {n}")))
            .unwrap();
        let expected = before
            .0
            .replace("\"payload\":null", &format!("\"payload\":\"update {n}\""));
        assert_eq!(node(&registry), Some((expected, before.1)));
        assert!(registrar.is_registered(NODE));
    }
    let now = registry.calls();
    assert_eq!((now.set - calls.set, now.delete), (50, calls.delete));
    assert_eq!(now.create, calls.create);
    registry.expire_all();
    until("it is kept", || {
        node(&registry).is_some_and(|now| now.1 != before.1 && now.0.contains("update 49"))
    });
}

#[test]
fn an_update_keeps_the_address_unless_it_names_one() {
    let (registry, registrar) = connected("update-address");
    register(&registrar, &service().address("10.0.0.9")).unwrap();
    registrar.update(&Service::new("foo", 2).id("1")).unwrap();
    assert!(holds(&registry, r#""address":"10.0.0.9","port":2,"#));
    registrar.update(&service().address("10.0.0.8")).unwrap();
    assert!(holds(&registry, r#""address":"10.0.0.8","port":1,"#));
}

#[test]
fn updates_at_the_same_time_keep_an_address_that_one_of_them_names() {
    let (registry, registrar) = registered("update-addresses");
    registry.delay(Duration::from_millis(1));
    for n in 0..50 {
        let address = format!("10.0.1.{n}");
        thread::scope(|scope| {
            scope.spawn(|| registrar.update(&service().address(&*address)).unwrap());
            scope.spawn(|| registrar.update(&service()).unwrap());
        });
        assert!(holds(&registry, &address), "{:?}", node(&registry));
    }
}

/// Connects without a setting for the address.
fn on_this_machine(config: Config) -> Registrar {
    let mut settings = config.resolve(SIDE).unwrap();
    settings.address = None;
    Registrar::connect(settings).unwrap()
}

/// Moves this machine to another address.
fn move_to(registrar: &Registrar, address: &str) -> usize {
    let moved = registrar.desired.move_to(address);
    registrar.inbox.wake();
    moved
}

#[test]
fn an_instance_moves_with_its_machine_in_place() {
    let registry = registry("moves");
    let registrar = on_this_machine(Config::in_memory("moves"));
    register(&registrar, &service()).unwrap();
    registrar.own_address.forget();
    let fixed = Service::new("fixed", 1).address("10.0.0.2");
    register(&registrar, &fixed).unwrap();
    let (before, calls) = (node(&registry).unwrap(), registry.calls());
    for address in ["10.9.0.1", "10.9.0.2"] {
        assert_eq!(move_to(&registrar, address), 1);
        until("it has moved", || holds(&registry, address));
        assert_eq!(move_to(&registrar, address), 0);
    }
    let now = registry.calls();
    assert_eq!((now.create, now.delete), (calls.create, calls.delete));
    registrar.update(&payload(&service(), "updated")).unwrap();
    assert!(holds(&registry, "10.9.0.2") && holds(&registry, "updated"));
    assert_eq!(move_to(&registrar, "10.9.0.3"), 1);
    registry.expire_all();
    until("it is registered again at the new address", || {
        node(&registry).is_some_and(|(data, owner)| owner != before.1 && data.contains("10.9.0.3"))
    });
    registrar.update(&service().address("10.0.0.3")).unwrap();
    registrar.update(&payload(&service(), "again")).unwrap();
    assert_eq!(move_to(&registrar, "10.9.0.4"), 0, "an update has set it");
}

#[test]
fn an_instance_whose_update_fails_has_moved_all_the_same() {
    let registry = registry("moves-back");
    let config = Config::in_memory("moves-back").connection_timeout(Duration::from_millis(200));
    let registrar = on_this_machine(config);
    register(&registrar, &service()).unwrap();
    registrar.own_address.forget();
    registry.outage(true);
    thread::scope(|scope| {
        let updating = scope.spawn(|| registrar.update(&payload(&service(), "late")));
        until("the update waits", || registrar.desired.is_updated(NODE));
        assert_eq!(registrar.desired.move_to("10.9.0.1"), 1);
        let error = updating.join().unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout);
    });
    registry.outage(false);
    until("it has moved", || holds(&registry, "10.9.0.1"));
    assert!(!holds(&registry, "late"));
}

#[test]
fn only_what_is_registered_here_can_be_updated() {
    let (registry, registrar) = connected("update-other");
    let kind = |service: &Service| registrar.update(service).unwrap_err().kind();
    assert_eq!(kind(&service()), ErrorKind::InvalidService);
    register(&registrar, &service()).unwrap();
    assert_eq!(kind(&Service::new("foo", 1)), ErrorKind::InvalidService);
    assert_eq!(kind(&service().id("2")), ErrorKind::InvalidService);
    assert_eq!(
        kind(&Service::new("foo", 0).id("1")),
        ErrorKind::InvalidService
    );
    registrar.unregister(&service()).unwrap();
    assert_eq!(kind(&service()), ErrorKind::InvalidService);
    assert_eq!(node(&registry), None);
    registrar.disconnect(Duration::from_secs(1)).unwrap();
    assert_eq!(kind(&service()), ErrorKind::NotConnected);
}

#[test]
fn an_update_that_failed_does_not_appear_later() {
    let (registry, registrar) = registered("update-failed");
    let before = node(&registry);
    registry.outage(true);
    let error = registrar.update(&payload(&service(), "late")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    registry.outage(false);
    registrar.set_enabled(&service(), false).unwrap();
    registrar.set_enabled(&service(), true).unwrap();
    assert_eq!(node(&registry), before);
    registry.refuse("/test");
    let error = registrar
        .update(&payload(&service(), "refused"))
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    registry.allow();
    registrar.update(&payload(&service(), "allowed")).unwrap();
    assert!(holds(&registry, "allowed"));
}

#[test]
fn updates_of_many_threads_follow_one_another() {
    let (registry, registrar) = registered("update-many");
    thread::scope(|scope| {
        for thread in 0..4 {
            let registrar = &registrar;
            scope.spawn(move || {
                for n in 0..50 {
                    let update = payload(&service(), &format!("{thread} {n}"));
                    registrar.update(&update).unwrap();
                }
            });
        }
    });
    registrar.update(&payload(&service(), "last")).unwrap();
    assert!(holds(&registry, "last"));
}

#[test]
fn what_is_switched_off_stays_so_until_it_is_switched_on_or_registered_anew() {
    let (registry, registrar) = registered("switch");
    let before = node(&registry).unwrap();
    assert!(registrar.set_enabled(&service(), false).unwrap());
    assert_eq!(node(&registry), Some((switched_off(&before.0), before.1)));
    assert!(registrar.is_registered(NODE));
    assert!(!registrar.is_enabled(NODE));
    registrar.update(&payload(&service(), "more")).unwrap();
    registry.expire_all();
    until("it is back, and off", || {
        node(&registry).is_some_and(|now| now.1 != before.1 && now.0.contains(OFF))
    });
    assert!(holds(&registry, "more"));
    assert!(
        registrar
            .set_enabled(&Service::new("foo", 1), true)
            .unwrap()
    );
    assert!(!holds(&registry, "enabled") && registrar.is_enabled(NODE));
    registrar.set_enabled(&service(), false).unwrap();
    register(&registrar, &service()).unwrap();
    assert!(!holds(&registry, "enabled"));
}

#[test]
fn what_is_switched_off_while_it_says_so_itself_stays_off() {
    let (registry, registrar) = connected("switch-off-twice");
    register(&registrar, &service().enabled(false)).unwrap();
    let before = node(&registry);
    assert!(registrar.set_enabled(&service(), false).unwrap());
    assert_eq!(node(&registry), before, "nothing had to be written");
    registrar.update(&payload(&service(), "more")).unwrap();
    assert!(holds(&registry, "more") && holds(&registry, OFF));
    registrar.set_enabled(&service(), true).unwrap();
    assert!(!holds(&registry, "enabled") && registrar.is_enabled(NODE));
}

#[test]
fn an_edit_is_adopted_although_the_payload_says_off_already() {
    let (registry, registrar) = connected("edit-down");
    let down = serde_json::json!({ "metadata": { "instance_status": "DOWN" } });
    register(&registrar, &service().payload(down)).unwrap();
    let (data, owner) = node(&registry).unwrap();
    let other = other("edit-down");
    other.set(NODE, switched_off(&data).as_bytes(), -1).unwrap();
    until("it is written in both ways", || {
        holds(&registry, "OUT_OF_SERVICE")
    });
    assert!(holds(&registry, OFF));
    registry.expire_all();
    until("it is back, and off", || {
        node(&registry).is_some_and(|now| now.1 != owner && now.0.contains(OFF))
    });
    other.end();
}

#[test]
fn nothing_is_switched_that_is_not_registered_here() {
    let (registry, registrar) = registered("switch-none");
    let before = node(&registry);
    for other in [
        service().id("2"),
        Service::new("foo", 2),
        Service::new("bar", 1),
    ] {
        assert!(!registrar.set_enabled(&other, false).unwrap());
    }
    assert_eq!(node(&registry), before);
    let error = registrar.set_enabled(&Service::new("a/b", 1), true);
    assert_eq!(error.unwrap_err().kind(), ErrorKind::InvalidService);
}

#[test]
fn what_is_switched_in_an_outage_is_switched_when_it_ends() {
    let (registry, registrar) = registered("switch-outage");
    registry.outage(true);
    let error = registrar.set_enabled(&service(), false).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    registry.outage(false);
    until("it is off", || holds(&registry, OFF));
}

/// Guards against an operator's switch-off that was undone within milliseconds (CURATOR-275).
#[test]
fn an_edit_that_switches_a_node_is_adopted_and_kept() {
    let (registry, registrar) = registered("edit");
    let (on, owner) = node(&registry).unwrap();
    let (other, off) = (other("edit"), switched_off(&on));
    for _ in 0..3 {
        let writes = registry.calls().set;
        other.set(NODE, off.as_bytes(), -1).unwrap();
        until("it counts as off", || !registrar.is_enabled(NODE));
        assert_eq!(node(&registry), Some((off.clone(), owner)));
        assert_eq!(
            registry.calls().set,
            writes + 1,
            "nothing had to be written"
        );
        other.set(NODE, format!("{on} ").as_bytes(), -1).unwrap();
        until("it counts as on", || registrar.is_enabled(NODE));
        until("it is spelled as we do", || {
            node(&registry) == Some((on.clone(), owner))
        });
    }
    other.set(NODE, off.as_bytes(), -1).unwrap();
    until("it counts as off", || !registrar.is_enabled(NODE));
    for _ in 0..3 {
        let owner = node(&registry).unwrap().1;
        registry.expire_all();
        until("it is back, and off", || {
            node(&registry).is_some_and(|now| now.1 != owner && now.0 == off)
        });
    }
    other.end();
}

#[test]
fn an_edit_that_changes_more_is_undone() {
    let (registry, registrar) = registered("edit-more");
    let before = node(&registry).unwrap();
    let other = other("edit-more");
    let edit = switched_off(&before.0).replace("10.0.0.1", "10.0.0.2");
    other.set(NODE, edit.as_bytes(), -1).unwrap();
    until("it is restored", || {
        node(&registry).as_ref() == Some(&before)
    });
    assert!(registrar.is_enabled(NODE));
}

#[test]
fn an_edit_is_adopted_although_updates_go_on() {
    let (registry, registrar) = registered("edit-update");
    let other = other("edit-update");
    let mut n = 0;
    let mut update = || {
        n += 1;
        registrar
            .update(&payload(&service(), &n.to_string()))
            .unwrap();
    };
    for _ in 0..10 {
        update();
        let (data, _) = node(&registry).unwrap();
        other.set(NODE, switched_off(&data).as_bytes(), -1).unwrap();
        update();
        update();
        assert!(holds(&registry, OFF), "{:?}", node(&registry));
        registrar.set_enabled(&service(), true).unwrap();
    }
}
