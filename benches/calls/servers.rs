//! HTTP servers on many loopback addresses, all in this process, which fail on command.

use crate::fleet::config;
use party::{Registration, Service};
use party_testing::free_port;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::task::{JoinHandle, JoinSet, spawn_blocking};
use tokio::time::sleep;

/// If a process crashes, its node remains for this long.
const SESSION: Duration = Duration::from_secs(15);

/// The way in which a server answers requests.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Answer {
    Well,
    After(Duration),
    WithError,
    Never,
}

pub(crate) struct Servers {
    runtime: Runtime,
    registration: Arc<Registration>,
    service: String,
    servers: Vec<Server>,
}

struct Server {
    address: SocketAddr,
    answer: Arc<Mutex<Answer>>,
    /// `None` if nothing listens at the address.
    listener: Mutex<Option<JoinHandle<()>>>,
    registered: Mutex<Registered>,
}

struct Registered {
    service: Service,
    /// The number of times the server has registered under a new id.
    times: u32,
    /// When the server was killed last.
    killed: Instant,
}

impl Servers {
    /// Starts and registers servers.
    pub(crate) fn start(connection: &str, service: &str, count: usize) -> Servers {
        let servers = Servers::register(connection, service, count);
        (0..count).for_each(|index| servers.listen(index));
        servers
    }

    /// Registers servers that do not listen yet. Each has a loopback address of its own.
    pub(crate) fn register(connection: &str, service: &str, count: usize) -> Servers {
        static NETWORK: AtomicU32 = AtomicU32::new(1);
        let network = NETWORK.fetch_add(1, Ordering::Relaxed) << 16;
        let port = free_port();
        let address = |index: usize| {
            let host = Ipv4Addr::from(0x7f00_0000 + network + 1 + index as u32);
            SocketAddr::from((host, port))
        };
        let servers: Vec<Server> = (0..count)
            .map(|index| Server::new(service, address(index)))
            .collect();
        let registration = Registration::connect(config(connection)).unwrap();
        let services = servers
            .iter()
            .map(|server| server.registered.lock().unwrap().service.clone());
        registration.register_all(services).unwrap();
        let mut runtime = Builder::new_multi_thread();
        let runtime = runtime.worker_threads(1).enable_all().build();
        Servers {
            runtime: runtime.unwrap(),
            registration: Arc::new(registration),
            service: service.to_owned(),
            servers,
        }
    }

    pub(crate) fn service(&self) -> &str {
        &self.service
    }

    pub(crate) fn count(&self) -> usize {
        self.servers.len()
    }

    pub(crate) fn url(&self, index: usize) -> String {
        format!("http://{}", self.servers[index].address)
    }

    /// Returns which server a URL leads to.
    pub(crate) fn index(&self, url: &str) -> usize {
        let address: SocketAddr = url.trim_start_matches("http://").parse().unwrap();
        let is_at = |server: &Server| server.address == address;
        self.servers.iter().position(is_at).unwrap()
    }

    pub(crate) fn answers(&self, index: usize, answer: Answer) {
        *self.servers[index].answer.lock().unwrap() = answer;
    }

    pub(crate) fn listen(&self, index: usize) {
        let server = &self.servers[index];
        let listener = std::net::TcpListener::bind(server.address).unwrap();
        listener.set_nonblocking(true).unwrap();
        let _runtime = self.runtime.enter();
        let listener = TcpListener::from_std(listener).unwrap();
        let task = self.runtime.spawn(serve(listener, server.answer.clone()));
        *server.listener.lock().unwrap() = Some(task);
    }

    /// Closes the port of a server and its connections. Its node remains, as after `kill -9`.
    pub(crate) fn kill(&self, index: usize) {
        let server = &self.servers[index];
        let task = server.listener.lock().unwrap().take().unwrap();
        task.abort();
        _ = self.runtime.block_on(task);
        server.registered.lock().unwrap().killed = Instant::now();
    }

    /// Starts a killed server again, on its port and under a new id. ZooKeeper removes the old node later.
    pub(crate) fn start_again(&self, index: usize) {
        self.listen(index);
        let server = &self.servers[index];
        let mut registered = server.registered.lock().unwrap();
        registered.times += 1;
        let service = registration_of(&self.service, server.address, registered.times);
        self.registration.register(service.clone()).unwrap();
        let stale = std::mem::replace(&mut registered.service, service);
        let expires = SESSION.saturating_sub(registered.killed.elapsed());
        self.after(expires, move |registration| {
            registration.unregister(&stale).unwrap();
        });
    }

    fn after(&self, time: Duration, work: impl FnOnce(&Registration) + Send + 'static) {
        let registration = self.registration.clone();
        self.runtime.spawn(async move {
            sleep(time).await;
            spawn_blocking(move || work(&registration)).await
        });
    }
}

impl Server {
    fn new(service: &str, address: SocketAddr) -> Server {
        Server {
            address,
            answer: Arc::new(Mutex::new(Answer::Well)),
            listener: Mutex::new(None),
            registered: Mutex::new(Registered {
                service: registration_of(service, address, 1),
                times: 1,
                killed: Instant::now(),
            }),
        }
    }
}

/// Returns the registration of a server that has started for the nth time. Each has an id of its own.
fn registration_of(service: &str, address: SocketAddr, nth: u32) -> Service {
    Service::new(service, address.port())
        .address(address.ip().to_string())
        .id(format!("{address}-{nth}"))
}

/// Serves until the task is aborted. This closes the connections too.
async fn serve(listener: TcpListener, answer: Arc<Mutex<Answer>>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        connections.spawn(respond(stream, answer.clone()));
    }
}

async fn respond(stream: TcpStream, answer: Arc<Mutex<Answer>>) -> io::Result<()> {
    // The request is sent in one piece. A probe sends none.
    if read(&stream).await? == 0 {
        return Ok(());
    }
    let answer = *answer.lock().unwrap();
    match answer {
        // The caller closes the connection when it has waited long enough.
        Answer::Never => return read(&stream).await.map(drop),
        Answer::After(time) => sleep(time).await,
        Answer::Well | Answer::WithError => {}
    }
    let status = match answer {
        Answer::WithError => "503 Service Unavailable",
        _ => "200 OK",
    };
    let response = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    // It fits into the empty buffer of the socket.
    stream.try_write(response.as_bytes()).map(drop)
}

async fn read(stream: &TcpStream) -> io::Result<usize> {
    loop {
        stream.readable().await?;
        match stream.try_read(&mut [0; 1024]) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            read => return read,
        }
    }
}
