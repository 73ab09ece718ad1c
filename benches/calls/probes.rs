//! Probes of many instances: how soon instances that refuse are back, and how soon a hanging one is ejected.

use crate::fleet::config;
use crate::paced::STRATEGIES;
use crate::servers::Servers;
use crate::table::{Bound, Table};
use party::{Discovery, Ejection, Outcome, Registration, Service, Strategy};
use party_testing::{free_port, until};
use socket2::{Domain, Socket, Type};
use std::io::ErrorKind::TimedOut;
use std::net::{SocketAddr, TcpStream};
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

const REFUSING: usize = 2000;
const SWALLOWING: usize = 60;
const SOON: Duration = Duration::from_secs(30);
const LIMIT: Duration = Duration::from_secs(300);
const BOUND: Duration = Duration::from_secs(3);

pub(crate) fn measure(connection: &str) -> Table {
    let mut table = Table::default();
    for strategy in STRATEGIES {
        let back = refuse(connection, strategy);
        table.row(
            &format!("2,000 instances refuse, and serve 5 s later, `{strategy:?}`: time until all are back"),
            &shown(back),
            None,
            Some(Bound("≤ 3 s", back <= BOUND)),
        );
    }
    for strategy in STRATEGIES {
        let ejected = swallow(connection, strategy);
        table.row(
            &format!(
                "60 instances do not accept connections, one failed call to each is reported, \
                 `{strategy:?}`: time until half of them are ejected"
            ),
            &shown(ejected),
            None,
            Some(Bound("≤ 3 s", ejected <= BOUND)),
        );
    }
    table
}

fn shown(time: Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}

/// Returns the time from when the instances listen until none is ejected.
fn refuse(connection: &str, strategy: Strategy) -> Duration {
    let servers = Servers::register(connection, &format!("refuse-{strategy:?}"), REFUSING);
    let ejection = Ejection::default().max_share(1.0);
    let config = config(connection).strategy(strategy).ejection(ejection);
    let discovery = Discovery::connect(config).unwrap();
    let provider = discovery.service_provider(servers.service()).unwrap();
    provider.wait_for(REFUSING, SOON).unwrap();
    for index in 0..REFUSING {
        provider.report(&servers.url(index), Outcome::Refused);
    }
    // The last one is never ejected.
    until("all are ejected", SOON, || {
        provider.ejected().len() == REFUSING - 1
    });
    sleep(Duration::from_secs(5));
    (0..REFUSING).for_each(|index| servers.listen(index));
    let began = Instant::now();
    until("all are back", LIMIT, || provider.ejected().is_empty());
    began.elapsed()
}

/// Returns the time from the first report until half of the instances are ejected.
fn swallow(connection: &str, strategy: Strategy) -> Duration {
    let ports: Vec<Full> = (0..SWALLOWING).map(|_| Full::new()).collect();
    scope(|scope| {
        for port in &ports {
            scope.spawn(|| port.check());
        }
    });
    let name = format!("swallow-{strategy:?}");
    let registration = Registration::connect(config(connection)).unwrap();
    let service = |full: &Full| Service::new(&name, full.address.port()).address("127.0.0.1");
    registration
        .register_all(ports.iter().map(service))
        .unwrap();
    let discovery = Discovery::connect(config(connection).strategy(strategy)).unwrap();
    let provider = discovery.service_provider(&name).unwrap();
    provider.wait_for(SWALLOWING, SOON).unwrap();
    let began = Instant::now();
    for port in &ports {
        provider.report(&format!("http://{}", port.address), Outcome::TimedOut);
    }
    until("half are ejected", LIMIT, || {
        provider.ejected().len() == SWALLOWING / 2
    });
    began.elapsed()
}

/// A port that does not accept connections, because its queue of connections is full.
struct Full {
    address: SocketAddr,
    _listener: Socket,
    _queued: Socket,
}

impl Full {
    fn new() -> Full {
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        listener.bind(&address.into()).unwrap();
        listener.listen(0).unwrap();
        // A queue of this size has room for one connection.
        let queued = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        queued.connect(&address.into()).unwrap();
        Full {
            address,
            _listener: listener,
            _queued: queued,
        }
    }

    fn check(&self) {
        let connected = TcpStream::connect_timeout(&self.address, Duration::from_millis(500));
        assert_eq!(connected.unwrap_err().kind(), TimedOut);
    }
}
