//! A web service on tokio and axum. It registers itself as `orders`, calls the service `users`, and stops on `SIGTERM`
//! or Ctrl-C without losing a request. `docs/async.md` explains each step.
//!
//! ```text
//! export ZOOKEEPER_CONNECTIONSTRING=$(scripts/zookeeper start) ENVIRONMENT_NAME=dev
//! cargo run --example serve & cargo run --example serve & # two instances of `users`
//! cargo run --example axum                                # prints its port, as in: curl localhost:PORT/orders/7
//! ```
//!
//! It listens on all interfaces and any free port. Set `LISTEN`, as in `LISTEN=127.0.0.1:8080`, to change that.
#![allow(clippy::print_stdout)]

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Path, Request, State};
use axum::http::{StatusCode, header::HOST};
use axum::{Router, routing::get};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use party::{Config, Outcome, Service, ServiceInstance, ServiceProvider, discovery, registration};
use std::future::IntoFuture;
use std::{io, time::Duration};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tokio::{task::spawn_blocking, time::timeout};

type Error = Box<dyn std::error::Error + Send + Sync>;

/// A call to `users` is tried on this many instances, and each of them has this long to answer.
const ATTEMPTS: u32 = 3;
const ATTEMPT: Duration = Duration::from_secs(1);
/// After unregistering, the server goes on for this long: some callers have just looked it up.
const DRAIN: Duration = Duration::from_millis(500);
/// Then it finishes the requests in flight. This is longer than one can take, which is three attempts.
const FINISH: Duration = Duration::from_secs(5);

/// Serves until a signal comes. It is `pub` only because a test runs it.
#[tokio::main]
pub async fn main() -> Result<(), Error> {
    let listen = std::env::var("LISTEN").unwrap_or_else(|_| "0.0.0.0:0".to_owned());
    let listener = TcpListener::bind(listen).await?;
    let port = listener.local_addr()?.port();
    let users = spawn_blocking(connect).await??;

    let app = Router::new().route("/orders/{id}", get(order));
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = axum::serve(listener, app.with_state(users))
        .with_graceful_shutdown(async { _ = stopped.await });
    let server = tokio::spawn(serving.into_future());

    // From here on, a signal does not end the process. Before, nothing is registered that it would leave behind.
    let guard = party::disconnect_on_drop().on_signals().keep_running();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let id = spawn_blocking(move || registration::register(Service::new("orders", port))).await??;
    println!("serving on port {port} as {id}");

    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    // The signal unregisters the program. This waits for the drain time, in which the server still accepts and answers.
    spawn_blocking(move || drop(guard)).await?;
    // Only now the server stops accepting. It finishes the requests in flight, which still call `users`.
    let _ = stop.send(());
    let served = timeout(FINISH, server).await;
    Ok(served.map_err(|_| "a request did not end in time")???)
}

/// Connects, and reads the instances of `users`. This blocks. Later, the provider answers from memory.
fn connect() -> party::Result<ServiceProvider> {
    registration::connect_with(Config::new().drain(DRAIN))?;
    discovery::connect()?;
    discovery::service_provider("users")
}

type Answer = (StatusCode, Bytes);

async fn order(
    State(users): State<ServiceProvider>,
    Path(id): Path<u64>,
) -> Result<Answer, (StatusCode, String)> {
    let user = user(&users, id).await;
    user.map_err(|error| (StatusCode::BAD_GATEWAY, format!("users: {error}\n")))
}

/// Asks one instance of `users` after the other, until one answers.
async fn user(users: &ServiceProvider, id: u64) -> Result<Answer, Error> {
    let path = format!("/users/{id}");
    let mut call = users.begin()?;
    let mut attempts = 1;
    loop {
        // The timeout is for one attempt. If it ended the whole call, the call would not learn that it failed.
        let answer = timeout(ATTEMPT, http_get(&call, &path)).await;
        let error = match answer.unwrap_or_else(|late| Err(io::Error::from(late).into())) {
            Ok(answer) => {
                call.succeeded();
                return Ok(answer);
            }
            Err(error) => error,
        };
        let outcome = error.downcast_ref::<io::Error>();
        let outcome = outcome.map_or(Outcome::Failed, Outcome::from);
        if attempts == ATTEMPTS {
            call.failed(outcome);
            return Err(error);
        }
        // An error here means that no other instance is left.
        call = call.another(outcome).map_err(|_| error)?;
        attempts += 1;
    }
}

/// Gets a page over a connection of its own. A status of 500 or more is an error, so that the call is retried.
async fn http_get(to: &ServiceInstance, path: &str) -> Result<Answer, Error> {
    let (host, port) = to.address().zip(to.port()).ok_or("no plain HTTP port")?;
    let stream = TcpStream::connect((host, port)).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = Request::get(path).header(HOST, format!("{host}:{port}"));
    let answer = sender.send_request(request.body(Body::empty())?).await?;
    let status = answer.status();
    if status.is_server_error() {
        return Err(format!("{host}:{port} answered {status}").into());
    }
    let body = to_bytes(Body::new(answer.into_body()), 1 << 20).await?;
    Ok((status, body))
}
