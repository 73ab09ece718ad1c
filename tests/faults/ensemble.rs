//! Servers that do worse than to go and come back: they are slow, grant what was not asked for, forget, or end every
//! greeting.

use crate::alone::link;
use crate::bed::{Bed, Setup};
use crate::child::{Peer, Usage};
use crate::peer::{CONNECTION_TIMEOUT, Link, registration};
use crate::row::{Bounds, Row};
use party_testing::client::{Client, Kind, end_session};
use party_testing::dead::Ending;
use party_testing::proxy::{Mode, Proxy};
use party_testing::server::{Ensemble, Options, Server};
use party_testing::{eventually, unique, until};
use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

const SOON: Duration = Duration::from_secs(30);

/// Every answer takes long for 3 T, and meanwhile new services are registered, which takes several requests.
pub(crate) fn slow_answers(times: usize, session_timeout: u64, delay: Duration) -> Row {
    let mut bed = Bed::new(Setup::new(session_timeout).proxied());
    let owner = bed.owner();
    for round in 0..times {
        bed.round(|bed| {
            let said = bed.registrar.mark();
            let ids = [0, 1, 2].map(|part| format!("{round}-{part}"));
            bed.set_proxies(Mode::Delay(delay));
            for id in &ids {
                bed.registrar.say(&format!("register slow-{id} {id}"));
                thread::sleep(bed.setup.session_timeout);
            }
            bed.set_proxies(Mode::Forward);
            let served = Instant::now();
            ids.iter()
                .for_each(|id| check_registered(bed, said, id, delay));
            served
        });
    }
    same_owner(&mut bed, owner);
    bed.finish(&Bounds::back(1.0, 2.5).unseen())
}

/// A call may only fail where its time is too short for the answers it needs, and then nothing may be left of it.
fn check_registered(bed: &mut Bed, said: usize, id: &str, delay: Duration) {
    let outcomes = ["registered", "failed"].map(|outcome| format!("{outcome} {id}"));
    let answered = || {
        outcomes
            .iter()
            .find_map(|line| bed.registrar.line(said, line))
    };
    let (_, answer) = eventually("an answer to register", SOON, answered);
    if answer.starts_with("failed") {
        bed.gone.insert(bed.path(&format!("slow-{id}"), id));
        bed.expect(delay * 7 > CONNECTION_TIMEOUT, answer);
    }
}

fn same_owner(bed: &mut Bed, owner: i64) {
    let now = bed.owner();
    bed.expect(now == owner, format!("session {owner:#x} became {now:#x}"));
}

/// A session lives longer than it was asked to, and answers are kept back for longer than was asked for, while some are
/// waited for.
pub(crate) fn granted_longer(times: usize) -> Row {
    let (pause, granted) = (Duration::from_millis(2500), Duration::from_secs(9));
    let options = Options {
        config: vec![format!("minSessionTimeout={}", granted.as_millis())],
        ..Options::default()
    };
    let mut bed = Bed::new(Setup {
        options,
        ..Setup::new(2).proxied()
    });
    // So long takes a session to go that was given up.
    bed.setup.session_timeout = granted;
    let owner = bed.owner();
    for round in 0..times {
        bed.round(|bed| {
            let frozen = round % 2 == 1;
            if frozen {
                bed.servers[0].freeze();
            } else {
                bed.set_proxies(Mode::Stall);
            }
            bed.registrar.say(&format!("register paused p{round}"));
            thread::sleep(pause);
            bed.servers[0].thaw();
            bed.set_proxies(Mode::Forward);
            bed.await_serving()
        });
    }
    same_owner(&mut bed, owner);
    bed.finish(&Bounds::back(1.0, 2.5).unseen())
}

/// Who asks for a session waits for long, although the server says at once that it serves.
pub(crate) fn slow_grant(times: usize) -> Row {
    let mut row = Row::default();
    for _ in 0..times {
        let server = Server::start();
        let proxy = Proxy::start(&server.address());
        proxy.set(Mode::DelayGrant(Duration::from_millis(3500)));
        // What is given up is still there when it is counted.
        let link = Link {
            session_timeout: Duration::from_secs(50),
            ..link(proxy.address())
        };
        let began = Instant::now();
        let peers = ["registrar", "caller"].map(|role| Peer::start(role, &link, 20));
        for peer in &peers {
            let (ready, _) = peer.await_line(0, "ready", SOON);
            row.backs.push(ready - began);
        }
        let sessions = server.sessions();
        row.expect(
            sessions <= 4,
            format!("{sessions} sessions of two clients, one more each was expected at most"),
        );
        row.times += 1;
    }
    row.check(&Bounds::back(10.0, 10.0));
    row
}

/// A server has its older data again, and in them nodes that were taken back since. Where it is `passed`, others have
/// written so much before we come that its transactions do not tell.
pub(crate) fn set_back(times: usize, passed: bool) -> Row {
    let mut bed = Bed::new(Setup::new(10).proxied());
    for round in 0..times {
        let ids = [0, 1, 2, 3, 4].map(|id| format!("{round}-{id}"));
        ids.iter()
            .for_each(|id| have_done(&mut bed, "register", id));
        let backup = bed.servers[0].back_up();
        ids.iter()
            .for_each(|id| have_done(&mut bed, "unregister", id));
        let paths = ids.map(|id| bed.path("back", &id));
        bed.gone.extend(paths);
        let mut served = Instant::now();
        bed.round(|bed| {
            served = restore(bed, &backup, passed);
            served
        });
        await_gone(&mut bed, served);
    }
    bed.finish(&Bounds::back(1.0, 2.5))
}

/// Has the registrar do something with a service, and waits until it is done.
fn have_done(bed: &mut Bed, command: &str, id: &str) {
    let said = bed.registrar.mark();
    bed.registrar.say(&format!("{command} back {id}"));
    bed.registrar
        .await_line(said, &format!("{command}ed {id}"), SOON);
}

/// Sets the server back, and returns when the processes under test can reach it.
fn restore(bed: &mut Bed, backup: &TempDir, passed: bool) -> Instant {
    let (client, path) = (bed.client(), format!("/{}-written", bed.environment));
    let _ = client.create(&path, b"", Kind::Persistent);
    let seen = client.set(&path, b"").unwrap().mzxid;
    bed.set_proxies(Mode::Refuse);
    bed.servers[0].kill();
    bed.servers[0].restore(backup);
    bed.servers[0].start_again();
    if passed {
        let client = bed.client();
        let _ = client.create(&path, b"", Kind::Persistent);
        while client.set(&path, b"").unwrap().mzxid < seen + 500 {}
    }
    bed.set_proxies(Mode::Forward);
    Instant::now()
}

/// What was taken back may stand for a moment.
fn await_gone(bed: &mut Bed, served: Instant) {
    let gone = bed.poll(|bed| bed.risen().is_empty().then(Instant::now));
    match gone.map(|gone| gone.saturating_duration_since(served)) {
        Some(after) => bed
            .row
            .expect_within("gone again in s", after.as_secs_f64(), 5.0),
        None => bed.expect(false, format!("they stand again: {:?}", bed.risen())),
    }
}

/// In the place of a server is another that ends every greeting: of those who have a session, and of one who has none.
pub(crate) fn greeting_ended(times: usize) -> Row {
    let mut row = Row::default();
    for _ in 0..times {
        greet_in_vain(&mut row);
        row.times += 1;
    }
    row.check(&Bounds::back(2.0, 2.0));
    row
}

fn greet_in_vain(row: &mut Row) {
    let mut server = Server::start();
    let link = Link {
        session_timeout: Duration::from_secs(50),
        in_background: true,
        ..link(server.address())
    };
    let (registrar, caller) = (
        Peer::start("registrar", &link, 20),
        Peer::start("caller", &link, 20),
    );
    registrar.await_ready();
    until("both are connected", SOON, || {
        server.connected_sessions().len() == 2
    });
    // Threads that have nothing to do end after a second.
    thread::sleep(Duration::from_millis(2500));
    let before = [registrar.usage(), caller.usage()];
    server.kill();
    let ending = Ending::at(&server.address());
    let late = Peer::start("registrar", &link, 0);
    let mut peers = [registrar, caller, late];
    endure(row, &ending, &peers);
    drop(ending);
    server.launch();
    let served = server.await_serving();
    let connected = await_connected(&mut peers, &link, &server);
    row.backs.push(connected.saturating_duration_since(served));
    let now = Usage::await_flat(&before, || [0, 1].map(|at| peers[at].usage()));
    row.expect(
        Usage::are_within(&now, &before),
        format!("threads and fds were {before:?} and are {now:?}"),
    );
}

/// Looks for ten seconds at how often is greeted, and what that costs.
fn endure(row: &mut Row, ending: &Ending, peers: &[Peer; 3]) {
    let usage = || peers.each_ref().map(Peer::usage);
    let began = Instant::now();
    thread::sleep(Duration::from_secs(3));
    let early = usage();
    thread::sleep(Duration::from_secs(7));
    let late = usage();
    // One attempt may be under way.
    let most = early.map(|usage| Usage {
        threads: usage.threads + 3,
        fds: usage.fds + 3,
        ..usage
    });
    row.expect(
        Usage::are_within(&late, &most),
        format!("threads and fds were {early:?} and are {late:?}"),
    );
    let mut sides: BTreeMap<i64, usize> = BTreeMap::new();
    for (at, session) in ending.greetings() {
        *sides.entry(session).or_default() += usize::from(at - began < Duration::from_secs(10));
    }
    let rarely = sides.values().all(|greetings| (1..=30).contains(greetings));
    row.expect(
        sides.len() == 3 && rarely,
        format!("greeted by session: {sides:?}"),
    );
}

/// Has everybody do something that takes a connection, and returns when the last has done it.
fn await_connected(peers: &mut [Peer; 3], link: &Link, server: &Server) -> Instant {
    let marks = peers.each_ref().map(Peer::mark);
    let client = Client::connect(&server.address()).unwrap();
    let marker = format!("/{}/instances/marker/m", link.environment);
    client
        .create_all(&marker, br#"{"address":"h","port":7}"#, Kind::Persistent)
        .unwrap();
    peers[0].say("register late l0");
    peers[2].say("register late l2");
    let answers = ["registered l0", "marker 7", "registered l2"];
    let lines = (0..3).map(|at| peers[at].await_line(marks[at], answers[at], SOON).0);
    lines.max().unwrap()
}

/// One server of two grants no session, although it says that it serves. The other one is in time: when a process starts,
/// and after its session has expired.
pub(crate) fn wedged(times: usize) -> Row {
    const COUNT: usize = 20;
    let (ensemble, mut row) = (Ensemble::start(), Row::default());
    let address = ensemble.servers[1].address();
    let proxy = Proxy::start(&ensemble.servers[0].address());
    proxy.set(Mode::DelayGrant(Duration::from_secs(60)));
    let client = Client::connect(&address).unwrap();
    for _ in 0..times {
        let link = Link {
            environment: unique("faults"),
            ..link(format!("{},{address}", proxy.address()))
        };
        let began = Instant::now();
        let registrar = Peer::start("registrar", &link, COUNT);
        let (ready, _) = registrar.await_line(0, "ready", SOON);
        row.backs.push(ready - began);
        let path = |number| {
            let (name, id) = registration(number);
            format!("/{}/instances/{name}/{id}", link.environment)
        };
        let owners = || {
            let owner = |number| Some(client.exists(&path(number)).unwrap()?.owner);
            (0..COUNT).map(owner).collect::<Option<Vec<i64>>>()
        };
        let before = owners().unwrap()[0];
        let expired = Instant::now();
        end_session(&address, before).unwrap();
        until("all nodes are back", SOON, || {
            owners().is_some_and(|owners| !owners.contains(&before))
        });
        row.backs.push(expired.elapsed());
        row.times += 1;
    }
    let bound = link(String::new()).session_timeout.as_secs_f64() / 3.0 + 2.0;
    row.check(&Bounds::back(bound, bound));
    row
}

/// Three servers are frozen for a minute, and a process with both sides looks for one that answers.
pub(crate) fn all_frozen(times: usize) -> Row {
    /// File descriptors over before.
    const OVER: usize = 8;
    let (ensemble, mut row) = (Ensemble::start(), Row::default());
    let asker = Peer::start("asker", &link(ensemble.connection_string()), 0);
    asker.await_ready();
    // Threads that have nothing to do end after a second.
    thread::sleep(Duration::from_millis(2500));
    let before = asker.usage();
    for _ in 0..times {
        ensemble.servers.iter().for_each(Server::freeze);
        let (frozen, mut most) = (Instant::now(), before);
        while frozen.elapsed() < Duration::from_secs(60) {
            let now = asker.usage();
            most.threads = most.threads.max(now.threads);
            most.fds = most.fds.max(now.fds);
            thread::sleep(Duration::from_millis(20));
        }
        ensemble.servers.iter().for_each(Server::thaw);
        let (threads, fds) = (most.threads - before.threads, most.fds - before.fds);
        let note = format!("at most {threads} threads and {fds} fds over before");
        row.notes.push(note.clone());
        // A process that has no thread to spare reconnects all the same.
        row.expect(threads == 0 && fds <= OVER, note);
        row.times += 1;
    }
    let [now] = Usage::await_flat(&[before], || [asker.usage()]);
    row.expect(
        Usage::are_within(&[now], &[before]),
        format!("threads and fds were {before:?} and are {now:?}"),
    );
    row
}

/// The leader is frozen until the others have another one, and these are frozen when it continues. For a moment it says
/// that it leads, and it has seen less than the processes under test.
pub(crate) fn stale_leader(times: usize) -> Row {
    let mut bed = Bed::new(Setup::new(40).ensemble().proxied());
    let owner = bed.owner();
    let leads = |server: &Server| server.mode().as_deref() == Some("leader");
    for round in 0..times {
        let stale = eventually("there is a leader", SOON, || {
            bed.servers.iter().position(leads)
        });
        bed.servers[stale].freeze();
        let others: Vec<usize> = (0..3).filter(|at| *at != stale).collect();
        until("there is another leader", SOON, || {
            others.iter().any(|at| leads(&bed.servers[*at]))
        });
        bed.proxies[stale].reset();
        // A transaction of the new leader.
        have_done(&mut bed, "register", &format!("seen-{round}"));
        bed.round(|bed| {
            others.iter().for_each(|at| bed.servers[*at].freeze());
            bed.servers[stale].thaw();
            bed.proxies.iter().for_each(Proxy::reset);
            thread::sleep(Duration::from_secs(2));
            others.iter().for_each(|at| bed.servers[*at].thaw());
            bed.await_serving()
        });
    }
    same_owner(&mut bed, owner);
    bed.finish(&Bounds::back(2.5, 5.0).unseen())
}

/// A proxy accepts connections and ends them at once, because the server behind it is down, for 2 T.
pub(crate) fn hung_up(times: usize) -> Row {
    let mut bed = Bed::new(Setup::new(6).proxied());
    let owner = bed.owner();
    for _ in 0..times {
        bed.round(|bed| {
            bed.set_proxies(Mode::HangUp);
            bed.servers[0].kill();
            bed.proxies[0].reset();
            thread::sleep(bed.setup.session_timeout * 2);
            bed.servers[0].start_again();
            bed.set_proxies(Mode::Forward);
            Instant::now()
        });
    }
    same_owner(&mut bed, owner);
    bed.finish(&Bounds::back(1.0, 2.5).unseen())
}
