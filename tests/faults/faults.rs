//! The faults, and what must hold for each of them.

use crate::bed::{Bed, Setup, appearances};
use crate::row::{Bounds, Row};
use crate::{alone, clash, ensemble, harm, living, program, refused, shutdown};
use party_testing::client::{Client, Kind, end_session};
use party_testing::observer::What;
use party_testing::proxy::Mode;
use party_testing::server::{Options, Server};
use party_testing::{eventually, process, until};
use std::thread;
use std::time::{Duration, Instant};

/// One line of the table.
pub(crate) struct Fault {
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    /// How often it is injected in a campaign, and in a short one.
    pub(crate) times: (usize, usize),
    pub(crate) run: fn(usize) -> Row,
}

const SOON: Duration = Duration::from_secs(30);

const fn fault(
    name: &'static str,
    title: &'static str,
    times: (usize, usize),
    run: fn(usize) -> Row,
) -> Fault {
    Fault {
        name,
        title,
        times,
        run,
    }
}

/// T is the session timeout: 6 s, unless the title says otherwise.
#[rustfmt::skip]
pub(crate) const FAULTS: &[Fault] = &[
    fault("killed", "server killed, started 1 s later", (20, 3), killed),
    fault("killed-unseen", "the same, T = 15 s", (20, 2), killed_unseen),
    fault("down-2t", "server down for 2 T", (3, 1), |times| down(times, 12, 15.0)),
    fault("down-10t", "server down for 10 T", (1, 0), |times| down(times, 60, 4.0)),
    fault("frozen-half-t", "server frozen for T/2", (5, 1), |times| frozen(times, 3)),
    fault("frozen-3t", "server frozen for 3 T", (3, 0), |times| frozen(times, 18)),
    fault("rolling-restart", "3 servers, T = 15 s: each restarted in turn", (3, 1), rolling_restart),
    fault("leader-killed", "3 servers: leader killed, started 4 s later", (5, 1), leader_killed),
    fault("no-quorum", "3 servers: two down for 2 T", (2, 0), no_quorum),
    fault("partition", "network drops everything for 2 to 9 s, old connections never recover", (12, 1), partition),
    fault("stall", "network delays everything for 2 to 9 s, then delivers it", (6, 0), stall),
    fault("reset", "connections reset", (20, 5), reset),
    fault("half-open-up", "only data from clients is dropped, for 2 T", (3, 0), |times| half_open(times, Mode::SwallowUp)),
    fault("half-open-down", "only data from the server is dropped, for 2 T", (3, 1), |times| half_open(times, Mode::SwallowDown)),
    fault("stopped-registrar", "registering process stopped for 3 T", (3, 0), |times| stopped(times, |bed| bed.registrar.pid(), false)),
    fault("stopped-caller", "looking-up process stopped for 3 T", (3, 0), |times| stopped(times, |bed| bed.caller.pid(), true)),
    fault("expired", "session of the registrations closed by another client", (10, 3), expired),
    fault("all-expired", "every session closed by another client", (10, 1), all_expired),
    fault("deleted", "own node deleted by hand", (100, 5), deleted),
    fault("overwritten", "own node overwritten, or replaced, by hand", (100, 6), overwritten),
    fault("parents-deleted", "all nodes and their parents deleted by hand", (100, 3), parents_deleted),
    fault("event-lost", "own node deleted, and the watch event lost", (2, 0), event_lost),
    fault("id-taken", "id taken already: by a dead session, by a live one, by a persistent node", (30, 3), clash::id_taken),
    fault("fought", "another live program keeps taking the id, then leaves", (3, 1), clash::fought),
    fault("reaped", "node of a service deleted as an empty container, then created again", (10, 2), reaped),
    fault("wiped", "server wiped and started empty", (5, 1), wiped),
    fault("late", "server down at start, connecting in the background", (5, 1), alone::late),
    fault("dead-addresses", "name with four addresses: one refuses, one never answers, one drops packets", (10, 1), alone::dead_addresses),
    fault("bad-names", "two of three host names cannot be resolved, name server does not answer", (3, 1), alone::bad_names),
    fault("moved", "host name moves to another address while the program runs", (3, 1), alone::moved),
    fault("races", "unregister, cancel and disconnect during reconnects", (1000, 60), alone::races),
    fault("bad-data", "broken JSON, empty and 1 MB data, children of instances, 10,000 instances", (1, 1), bad_data),
    fault("closures", "a slow and a panicking health check, a panicking parameter", (1, 1), alone::closures),
    fault("thousand-restart", "1,000 registrations: server killed, started 1 s later", (3, 0), thousand_restart),
    fault("thousand-expired", "1,000 registrations: session expired", (3, 1), thousand_expired),
    fault("slow-answers", "every answer takes 1.3 s for 3 T, while new services are registered", (3, 1), |times| ensemble::slow_answers(times, 6, Duration::from_millis(1300))),
    fault("slow-answers-3s", "every answer takes 3 s for 3 T, T = 15 s", (1, 0), |times| ensemble::slow_answers(times, 15, Duration::from_secs(3))),
    fault("granted-longer", "session of 9 s granted instead of 2 s, answers paused for 2.5 s", (10, 2), ensemble::granted_longer),
    fault("slow-grant", "session granted after 3.5 s, server reports at once that it serves", (5, 1), ensemble::slow_grant),
    fault("set-back", "server restored from older data that still has 5 unregistered nodes", (5, 1), |times| ensemble::set_back(times, false)),
    fault("set-back-passed", "the same, and others write before the library reconnects", (5, 1), |times| ensemble::set_back(times, true)),
    fault("greeting-ended", "server replaced for 10 s by a fake that closes every connection during the handshake", (3, 1), ensemble::greeting_ended),
    fault("wedged", "1 server of 2 says that it serves and grants no session: at start, then after an expired session", (10, 2), ensemble::wedged),
    fault("all-frozen", "3 servers frozen for 10 T, both sides in one process", (1, 0), ensemble::all_frozen),
    fault("stale-leader", "3 servers, T = 40 s: an old leader is back, and the other two are frozen for 2 s", (10, 0), ensemble::stale_leader),
    fault("hung-up", "a proxy accepts connections and ends them, its server is down for 2 T", (10, 1), ensemble::hung_up),
    fault("replaced", "connect again, or disconnect, with a registration pending or its check running", (30, 3), program::replaced),
    fault("sick", "health check fails for 20 s, with 20 callers: time until the instance is back", (3, 1), living::sick),
    fault("switched-by-hand", "switched off by an operator: 3 restarts and an expired session, then switched on", (3, 1), living::switched_by_hand),
    fault("updated", "updates of one instance with 20 callers, server killed in the middle", (10_000, 1_000), living::updated),
    fault("refused", "500 registrations refused for 60 s after their session has expired", (1, 0), refused::refused),
    fault("failed", "10,000 calls of `register` fail while the server is down, with payloads of 2 kB", (1, 0), refused::failed),
    fault("booted-before", "programs start 60 s before the server", (2, 0), |times| living::booted_before(times, 60)),
    fault("booted-just-before", "the same, 5 s before", (0, 1), |times| living::booted_before(times, 5)),
    fault("shutdown", "server killed or frozen, then SIGTERM, drain time 0: time until the program has ended", (10, 2), shutdown::signalled),
    fault("disconnect", "server killed or frozen: time that `discovery::disconnect` takes", (10, 2), shutdown::disconnected),
    fault("request-too-long", "1 registration longer than jute.maxbuffer beside 20, then the session expires", (2, 0), harm::request_too_long),
    fault("node-too-large", "a node of 12 MB in a service that is followed, other nodes change every 3 s", (20, 1), harm::node_too_large),
    fault("dropped-providers", "providers dropped, one for each service, with and without a connection", (2000, 200), program::dropped_providers),
];

/// Injects a fault some times, and looks at what came of it.
fn rounds(
    times: usize,
    setup: Setup,
    bounds: Bounds,
    mut inject: impl FnMut(&mut Bed, usize) -> Instant,
) -> Row {
    let mut bed = Bed::new(setup);
    for round in 0..times {
        bed.round(|bed| inject(bed, round));
    }
    bed.finish(&bounds)
}

fn wait(seconds: u64) {
    thread::sleep(Duration::from_secs(seconds));
}

fn restart(bed: &mut Bed, seconds: u64) -> Instant {
    bed.servers[0].kill();
    wait(seconds);
    bed.servers[0].launch();
    bed.servers[0].await_serving()
}

fn killed(times: usize) -> Row {
    rounds(times, Setup::new(6), Bounds::back(0.7, 2.0), |bed, _| {
        restart(bed, 1)
    })
}

fn killed_unseen(times: usize) -> Row {
    rounds(
        times,
        Setup::new(15),
        Bounds::back(0.7, 2.0).unseen(),
        |bed, _| restart(bed, 1),
    )
}

fn down(times: usize, seconds: u64, cpu: f64) -> Row {
    let bounds = Bounds::back(1.0, 2.5).cpu(cpu);
    rounds(times, Setup::new(6), bounds, |bed, _| restart(bed, seconds))
}

fn frozen(times: usize, seconds: u64) -> Row {
    rounds(times, Setup::new(6), Bounds::back(1.0, 2.5), |bed, _| {
        bed.servers[0].freeze();
        wait(seconds);
        bed.servers[0].thaw();
        bed.await_serving()
    })
}

fn rolling_restart(times: usize) -> Row {
    let bounds = Bounds::back(1.0, 2.5).unseen();
    rounds(times, Setup::new(15).ensemble(), bounds, |bed, _| {
        for at in 0..bed.servers.len() {
            bed.servers[at].kill();
            wait(2);
            bed.servers[at].launch();
            bed.await_serving();
        }
        Instant::now()
    })
}

fn leader_killed(times: usize) -> Row {
    let mut bed = Bed::new(Setup::new(6).ensemble());
    for _ in 0..times {
        let leads = |server: &Server| server.mode().as_deref() == Some("leader");
        let leader = eventually("there is a leader", SOON, || {
            bed.servers.iter().position(leads)
        });
        bed.round(|bed| {
            bed.servers[leader].kill();
            bed.await_serving()
        });
        wait(4);
        bed.servers[leader].start_again();
    }
    bed.finish(&Bounds::back(1.0, 2.5))
}

fn no_quorum(times: usize) -> Row {
    rounds(
        times,
        Setup::new(6).ensemble(),
        Bounds::back(1.0, 2.5),
        |bed, _| {
            (0..2).for_each(|at| bed.servers[at].kill());
            wait(12);
            (0..2).for_each(|at| bed.servers[at].launch());
            bed.await_serving()
        },
    )
}

/// For so many seconds the network is away: less than a client needs to notice, less than T, and more.
fn away(round: usize) -> u64 {
    [2, 5, 9][round % 3]
}

fn partition(times: usize) -> Row {
    network(times, Mode::Swallow, away)
}

fn stall(times: usize) -> Row {
    network(times, Mode::Stall, away)
}

fn half_open(times: usize, mode: Mode) -> Row {
    network(times, mode, |_| 12)
}

fn network(times: usize, mode: Mode, seconds: fn(usize) -> u64) -> Row {
    rounds(
        times,
        Setup::new(6).proxied(),
        Bounds::back(1.0, 2.5),
        |bed, round| {
            bed.set_proxies(mode);
            wait(seconds(round));
            bed.set_proxies(Mode::Forward);
            Instant::now()
        },
    )
}

fn reset(times: usize) -> Row {
    rounds(
        times,
        Setup::new(6).proxied(),
        Bounds::back(0.7, 2.0),
        |bed, _| {
            bed.proxies[0].reset();
            Instant::now()
        },
    )
}

fn stopped(times: usize, who: fn(&Bed) -> u32, lookups: bool) -> Row {
    let bounds = Bounds::back(2.0, 2.0);
    // While the only instances of a service are gone, looking it up fails.
    let bounds = if lookups {
        bounds
    } else {
        bounds.lookups_may_fail()
    };
    rounds(times, Setup::new(6), bounds, |bed, _| {
        process::signal(who(bed), "-STOP");
        wait(18);
        process::signal(who(bed), "-CONT");
        Instant::now()
    })
}

pub(crate) fn expire(bed: &mut Bed) -> Instant {
    end_session(&bed.servers[0].address(), bed.owner()).unwrap();
    Instant::now()
}

fn expired(times: usize) -> Row {
    let mut bed = Bed::new(Setup::new(6));
    let mark = bed.observer.mark();
    (0..times).for_each(|_| bed.round(expire));
    let twice = appearances(&bed.sightings(mark))
        .into_iter()
        .find(|(_, count)| *count != times);
    bed.expect(
        twice.is_none(),
        format!("not as often back as expired: {twice:?}"),
    );
    bed.finish(&Bounds::back(1.0, 1.0))
}

fn all_expired(times: usize) -> Row {
    rounds(times, Setup::new(6), Bounds::back(1.0, 1.0), |bed, _| {
        for session in bed.servers[0].connected_sessions() {
            end_session(&bed.servers[0].address(), session).unwrap();
        }
        Instant::now()
    })
}

fn by_hand(times: usize, mut interfere: impl FnMut(&Bed, &Client, &str, usize)) -> Row {
    let mut client = None;
    rounds(
        times,
        Setup::new(6),
        Bounds::back(0.5, 0.5),
        |bed, round| {
            let client = client.get_or_insert_with(|| bed.client());
            let path = bed.paths().nth(round % bed.setup.count).unwrap();
            interfere(bed, client, &path, round);
            Instant::now()
        },
    )
}

fn deleted(times: usize) -> Row {
    by_hand(times, |_, client, path, _| client.delete(path).unwrap())
}

fn overwritten(times: usize) -> Row {
    by_hand(times, |_, client, path, round| match round % 3 {
        0 => drop(client.set(path, b"overwritten").unwrap()),
        1 => {
            client.delete(path).unwrap();
            // The library may be quicker.
            let _ = client.create(path, b"replaced", Kind::Persistent);
        }
        _ => {
            let (data, _) = client.get(path).unwrap().unwrap();
            client.delete(path).unwrap();
            let _ = client.create(path, &data, Kind::Persistent);
        }
    })
}

fn parents_deleted(times: usize) -> Row {
    by_hand(times, |bed, client, _, _| {
        // What comes back while we are at it keeps a parent from being deleted.
        until("everything is deleted", SOON, || {
            client.delete_all(&format!("/{}", bed.environment)).is_ok()
        });
    })
}

fn event_lost(times: usize) -> Row {
    let mut bed = Bed::new(Setup::new(6).proxied());
    for _ in 0..times {
        let path = bed.paths().next().unwrap();
        bed.round(|bed| {
            let mark = bed.observer.mark();
            bed.set_proxies(Mode::DropEvents);
            bed.client().delete(&path).unwrap();
            bed.observer
                .await_sighting(mark, &path, What::Appeared, SOON);
            bed.set_proxies(Mode::Forward);
            Instant::now()
        });
    }
    bed.finish(&Bounds::back(1.0, 1.0).absent(21.0).lookups_may_fail())
}

fn reaped(times: usize) -> Row {
    let properties = vec!["znode.container.checkIntervalMs=200".to_owned()];
    let options = Options {
        java_properties: properties,
        ..Options::default()
    };
    let setup = Setup {
        options,
        ..Setup::new(6)
    };
    let mut bed = Bed::new(setup);
    let (client, parent) = (bed.client(), format!("/{}/instances/box", bed.environment));
    let instance = bed.path("box", "1");
    for round in 0..times {
        client.create(&parent, b"", Kind::Container).unwrap();
        let data = format!(r#"{{"address":"h","port":{}}}"#, 100 + round);
        let created = Instant::now();
        client
            .create(&instance, data.as_bytes(), Kind::Persistent)
            .unwrap();
        let back = bed.await_url("box", &format!("http://h:{}", 100 + round));
        bed.row.times += 1;
        bed.row.backs.push(back - created);
        client.delete(&instance).unwrap();
        until("the container is reaped", SOON, || {
            client.exists(&parent).unwrap().is_none()
        });
        bed.await_url("box", "no instance of");
    }
    bed.finish(&Bounds::back(1.0, 1.0))
}

fn wiped(times: usize) -> Row {
    rounds(times, Setup::new(6), Bounds::back(1.0, 2.5), |bed, _| {
        bed.servers[0].kill();
        bed.servers[0].wipe();
        bed.servers[0].launch();
        bed.servers[0].await_serving()
    })
}

fn bad_data(_: usize) -> Row {
    let mut bed = Bed::new(Setup::new(6));
    let client = bed.client();
    let good = br#"{"address":"h","port":1}"#;
    let put = |id: &str, data: &[u8]| {
        client
            .create_all(&bed.path("mixed", id), data, Kind::Persistent)
            .unwrap()
    };
    put("good", good);
    put("parent", good);
    put("parent/child", b"{");
    put("broken", b"{");
    put("empty", b"");
    put("huge", &vec![b'x'; 1_000_000]);
    bed.await_url("mixed", "http://h:1");
    let count = bed.ask_caller("count mixed");
    bed.expect(count == "count mixed Ok(2)", &count);
    let warnings = bed.caller.logged();
    bed.expect(
        warnings.len() == 1,
        format!("warnings, one was expected: {warnings:?}"),
    );
    let crowd = (0..10_000).map(|id| bed.path("crowd", &format!("c{id}")));
    crowd.for_each(|path| client.create_all(&path, good, Kind::Persistent).unwrap());
    let asked = Instant::now();
    let count = bed.ask_caller("count crowd");
    bed.row.backs.push(asked.elapsed());
    bed.expect(count == "count crowd Ok(10000)", &count);
    bed.row.times = 1;
    bed.finish(&Bounds::back(5.0, 5.0))
}

fn thousand_restart(times: usize) -> Row {
    let setup = Setup::new(6).count(1000);
    rounds(times, setup, Bounds::back(3.0, 3.0), |bed, _| {
        restart(bed, 1)
    })
}

fn thousand_expired(times: usize) -> Row {
    let setup = Setup::new(6).count(1000);
    rounds(times, setup, Bounds::back(3.0, 3.0), |bed, _| expire(bed))
}
