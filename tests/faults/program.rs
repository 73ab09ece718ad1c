//! What the program itself does with its connections, and what has to be left of it.

use crate::alone::link;
use crate::child::Peer;
use crate::peer::Link;
use crate::row::{Bounds, Row};
use party_testing::client::{Client, Kind};
use party_testing::observer::{Observer, Sighting, What};
use party_testing::proxy::{Mode, Proxy};
use party_testing::server::Server;
use party_testing::until;
use std::thread;
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(30);
/// What two thousand calls take at most.
const LONG: Duration = Duration::from_secs(120);
/// The services that are looked up by name.
const KEPT: usize = 5;

/// The connection of registrations is replaced, and ended, while somebody still holds it: nothing of it may stay, and
/// nothing may appear through it.
pub(crate) fn replaced(times: usize) -> Row {
    let server = Server::start();
    // Long enough that what is left behind does not just time out.
    let link = Link {
        session_timeout: Duration::from_secs(50),
        ..link(server.address())
    };
    let observer = Observer::start(
        vec![server.address()],
        &format!("/{}/instances", link.environment),
    );
    observer.await_in_touch(SOON);
    let peer = Peer::start("replacing", &link, times);
    let limit = Duration::from_secs(60 + 2 * times as u64);
    peer.await_line(0, "done", limit);
    let mut row = Row {
        times,
        ..Row::default()
    };
    let said = peer.lines("broken ").into_iter();
    row.broken.extend(said.map(|(_, what)| what));
    // What is under way has the time to appear.
    thread::sleep(Duration::from_secs(5));
    let path = |id: &str| format!("/{}/instances/replaced/{id}", link.environment);
    for (gone, id) in peer.lines("gone ") {
        check_gone(&mut row, &observer, &path(&id), gone);
    }
    let last = observer.present().contains_key(&path("last"));
    row.expect(last, "the last connection has lost its registration");
    // The observer has one too.
    let sessions = server.connected_sessions().len() - 1;
    row.expect(
        sessions == 1,
        format!("{sessions} sessions, one was expected"),
    );
    row.check(&Bounds::back(0.0, 0.0));
    row
}

fn check_gone(row: &mut Row, observer: &Observer, path: &str, gone: Instant) {
    let left = observer.present().contains_key(path);
    row.expect(!left, format!("{path} is left"));
    // An event takes a moment to arrive.
    let late = gone + Duration::from_secs(1);
    let came = |seen: &Sighting| seen.path == path && seen.what == What::Appeared && seen.at > late;
    let appeared = observer.sightings(0).iter().any(came);
    row.expect(!appeared, format!("{path} appeared"));
}

/// So many services are followed by providers, which are dropped again: while they are watched, and while there is no
/// connection. What was looked up by name stays.
pub(crate) fn dropped_providers(count: usize) -> Row {
    let mut row = Row {
        times: count,
        ..Row::default()
    };
    let mut watching = Watching::new(count);
    let watches = watching.server.figure("zk_watch_count");
    watching.have("hold");
    let dropped = watching.have("drop");
    let unwatched = watching.check(&mut row, watches, "dropped");
    row.backs.push(unwatched - dropped);
    watching.proxy.reset();
    watching.check(&mut row, watches, "reset");
    watching.have("hold");
    watching.proxy.set(Mode::Refuse);
    watching.proxy.reset();
    watching.have("drop");
    watching.proxy.set(Mode::Forward);
    watching.check(&mut row, watches, "dropped without a connection");
    row.check(&Bounds::back(5.0, 5.0));
    row
}

/// A process that watches, and the server on which it does.
struct Watching {
    server: Server,
    proxy: Proxy,
    client: Client,
    root: String,
    peer: Peer,
    /// The port of the services that are looked up by name.
    port: u16,
}

impl Watching {
    fn new(count: usize) -> Watching {
        let server = Server::start();
        let proxy = Proxy::start(&server.address());
        let link = link(proxy.address());
        let root = format!("/{}/instances", link.environment);
        let client = Client::connect(&server.address()).unwrap();
        let dropped = (0..count).map(|number| format!("{root}/dropped-{number}/i"));
        let kept = (0..KEPT).map(|number| format!("{root}/kept-{number}/i"));
        for path in dropped.chain(kept) {
            client
                .create_all(&path, &instance(1), Kind::Persistent)
                .unwrap();
        }
        let peer = Peer::start("providers", &link, count);
        peer.await_ready();
        let mut watching = Watching {
            server,
            proxy,
            client,
            root,
            peer,
            port: 1,
        };
        watching.await_followed();
        watching
    }

    /// Has the process do something, and returns when it was done.
    fn have(&mut self, command: &str) -> Instant {
        let mark = self.peer.mark();
        self.peer.say(command);
        self.peer
            .await_line(mark, &format!("done {command}"), LONG)
            .0
    }

    /// Looks at what is watched, and returns when that was as it should be.
    fn check(&mut self, row: &mut Row, watches: u64, when: &str) -> Instant {
        self.await_followed();
        let limit = Instant::now() + SOON;
        while self.server.figure("zk_watch_count") > watches && Instant::now() < limit {
            thread::sleep(Duration::from_millis(20));
        }
        let (now, watched) = (Instant::now(), self.server.watched());
        let dropped = watched.iter().filter(|path| path.contains("/dropped-"));
        let (dropped, count) = (dropped.count(), self.server.figure("zk_watch_count"));
        row.expect(
            dropped == 0 && count <= watches,
            format!("{when}: {count} watches, {dropped} of them dropped, {watches} were expected"),
        );
        let kept = (0..KEPT).map(|number| format!("{}/kept-{number}", self.root));
        let lost: Vec<String> = kept
            .filter(|kept| !watched.iter().any(|path| kept.starts_with(path)))
            .collect();
        row.expect(lost.is_empty(), format!("{when}: not watched: {lost:?}"));
        now
    }

    /// Waits until a change of every service that is looked up by name has been followed.
    fn await_followed(&mut self) {
        self.port += 1;
        for number in 0..KEPT {
            let path = format!("{}/kept-{number}/i", self.root);
            self.client.set(&path, &instance(self.port)).unwrap();
        }
        for number in 0..KEPT {
            let (ask, url) = (
                format!("url kept-{number}"),
                format!("http://h:{}\"", self.port),
            );
            until("a change is followed", SOON, || {
                let mark = self.peer.mark();
                self.peer.say(&ask);
                self.peer.await_line(mark, &ask, SOON).1.contains(&url)
            });
        }
    }
}

fn instance(port: u16) -> Vec<u8> {
    format!(r#"{{"address":"h","port":{port}}}"#).into_bytes()
}
