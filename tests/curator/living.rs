//! Registrations that are updated and switched while the other side looks at them.

use crate::described::{all, describe};
use crate::peer::{LIMIT, Peer};
use crate::support::{Party, config};
use party::{Service, discovery, registration};
use party_testing::client::Client;
use party_testing::server::shared;
use party_testing::{unique, until};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// How often each is measured.
const TIMES: usize = 20;

/// Says how long something took, which on a loaded machine says little: it is measured, and not asserted.
fn tell(what: &str, mut took: Vec<Duration>) {
    took.sort();
    let (median, worst) = (took[took.len() / 2], took[took.len() - 1]);
    println!(
        "{what}: median {median:.1?}, worst {worst:.1?} of {}",
        took.len()
    );
}

fn service() -> Service {
    Service::new("living", 5000).id("i-1")
}

fn is(enabled: bool) -> impl Fn(&[Value]) -> bool {
    move |instances| instances.len() == 1 && instances[0]["enabled"] == json!(enabled)
}

/// Whether Curator's provider gives the instance out.
fn provides(peer: &mut Peer) -> bool {
    let provided = json!({"do": "instance", "service": "living"});
    !peer.ask(provided).is_null()
}

#[test]
fn curators_cache_and_provider_see_what_we_update_and_switch() {
    let environment = unique("living");
    let mut peer = Peer::connected(shared(), &environment);
    let _party = Party::connected(&config(shared(), &environment));
    registration::register(service()).unwrap();
    peer.ask(json!({"do": "watch", "service": "living"}));
    until("curator's provider has it", LIMIT, || provides(&mut peer));
    let (mut off, mut on, mut updated) = (Vec::new(), Vec::new(), Vec::new());
    for n in 0..TIMES {
        let began = Instant::now();
        assert!(registration::set_enabled(&service(), false).unwrap());
        let told = peer.await_event(is(false));
        off.push(began.elapsed());
        assert!(
            told.iter().all(|instances| instances.len() == 1),
            "it never went"
        );
        until("curator's provider leaves it out", LIMIT, || {
            !provides(&mut peer)
        });
        let began = Instant::now();
        assert!(registration::set_enabled(&service(), true).unwrap());
        peer.await_event(is(true));
        on.push(began.elapsed());
        until("curator's provider has it again", LIMIT, || {
            provides(&mut peer)
        });
        let began = Instant::now();
        registration::update(&service().payload(json!({ "n": n }))).unwrap();
        let told = peer.await_event(|instances| instances[0]["payload"] == json!({ "n": n }));
        updated.push(began.elapsed());
        assert!(
            told.iter().all(|instances| instances.len() == 1),
            "it never went"
        );
    }
    tell("curator's cache sees ours switched off", off);
    tell("curator's cache sees ours switched on", on);
    tell("curator's cache sees ours updated", updated);
}

#[test]
fn we_see_what_curator_updates_and_switches() {
    let environment = unique("theirs");
    let mut peer = Peer::start();
    peer.connect(&crate::peer::Session {
        connection: shared(),
        namespace: &environment,
        millis: 6000,
        // The nine fields do not say whether it is switched on.
        compatible: false,
    });
    let _party = Party::connected(&config(shared(), &environment));
    let instance = |enabled: bool, payload: Value| {
        json!({"name": "living", "id": "i-1", "address": "10.0.0.1", "port": 5000, "sslPort": null,
            "registrationTimeUTC": 7, "serviceType": "DYNAMIC", "uriSpec": null,
            "enabled": enabled, "payload": payload})
    };
    peer.register(&instance(true, Value::Null));
    let provider = discovery::service_provider("living").unwrap();
    until("we have it", LIMIT, || {
        provider.instance().unwrap().is_some()
    });
    let mut update = |enabled, payload: Value, done: &dyn Fn() -> bool| {
        peer.ask(json!({"do": "update", "instance": instance(enabled, payload)}));
        // Asked without a pause, since it is measured from the answer of Curator.
        let began = Instant::now();
        while !done() {
            assert!(began.elapsed() < LIMIT);
            std::thread::yield_now();
        }
        began.elapsed()
    };
    let picked = || provider.instance().unwrap();
    let (mut off, mut on, mut updated) = (Vec::new(), Vec::new(), Vec::new());
    for n in 0..TIMES {
        off.push(update(false, Value::Null, &|| picked().is_none()));
        assert_eq!(provider.instances().unwrap().len(), 1, "it is listed");
        on.push(update(true, Value::Null, &|| picked().is_some()));
        let payload = json!(format!("n {n}"));
        let has_it = || picked().is_some_and(|picked| picked.payload() == Some(payload.clone()));
        updated.push(update(true, payload.clone(), &has_it));
    }
    tell("we see curator's switched off", off);
    tell("we see curator's switched on", on);
    tell("we see curator's updated", updated);
}

/// What an operator's tool in Java does, see CURATOR-275.
#[test]
fn an_instance_of_ours_that_curator_switches_off_stays_off() {
    let environment = unique("edited");
    let mut peer = Peer::start();
    peer.connect(&crate::peer::Session {
        connection: shared(),
        namespace: &environment,
        millis: 6000,
        compatible: false,
    });
    let _party = Party::connected(&config(shared(), &environment));
    let payload = json!({"zone": "eu", "metadata": {"a": "b"}});
    let service = service().payload(payload);
    let pending = registration::register_in_background(service.clone(), || true).unwrap();
    pending.wait(LIMIT).unwrap();
    let provider = discovery::service_provider("living").unwrap();
    let mut described = describe(&provider.instances().unwrap()[0]);
    let client = Client::connect(shared()).unwrap();
    let path = format!("/{environment}/instances/living/i-1");
    for enabled in [false, true, false] {
        described["enabled"] = json!(enabled);
        // A tool writes the node itself: Curator updates only what it has registered.
        let edited = peer.serialize(&described);
        client.set(&path, edited.as_bytes()).unwrap();
        until("the edit is adopted", LIMIT, || {
            pending.is_enabled() == enabled
        });
        let picked = || provider.instance().unwrap().is_some();
        until("it is seen", LIMIT, || picked() == enabled);
        let data = || String::from_utf8(client.get(&path).unwrap().unwrap().0).unwrap();
        until("it is spelled as we do", LIMIT, || {
            !data().contains("java.util")
        });
        assert_eq!(data().contains(r#""enabled":false"#), !enabled);
        assert_eq!(data().contains("OUT_OF_SERVICE"), !enabled);
    }
    registration::set_enabled(&service, true).unwrap();
    until("we see it", LIMIT, || {
        provider.instance().unwrap().is_some()
    });
    let ours = all(&provider);
    assert_eq!(ours[0]["payload"]["metadata"], json!({"a": "b"}));
    assert_eq!(ours[0]["enabled"], json!(true));
    assert_eq!(peer.query("living"), ours);
}
