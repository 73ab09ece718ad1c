//! Finds one instance of a service: an override, else the snapshot, then pick one.

use crate::discovery::change::Change;
use crate::discovery::directory::Directory;
use crate::discovery::snapshot::{RejectedInstance, Snapshot, View};
use crate::error::{Error, ErrorKind, Result};
use crate::excerpt::excerpt;
use crate::listener::Subscription;
use crate::model::{Service, ServiceInstance};
use rand::Rng;
use rand::rngs::SmallRng;
use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;

/// Picks an instance of one service at random.
///
/// Returned by [`service_provider`](crate::discovery::service_provider). It follows what is registered for as long as
/// it lives, and answers from memory: no call of it waits for ZooKeeper. Dropping it ends that, unless the service was
/// looked up by name.
pub struct ServiceProvider {
    name: String,
    directory: Arc<Directory>,
}

impl ServiceProvider {
    pub(crate) fn new(directory: Arc<Directory>, name: &str) -> Result<ServiceProvider> {
        Service::check_name(name)?;
        directory.hold(name)?;
        Ok(ServiceProvider {
            name: name.to_owned(),
            directory,
        })
    }

    /// Returns the name of the service.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns one of the instances that can be picked, chosen at random, or `None` where there is none.
    ///
    /// # Errors
    /// [`ErrorKind::NotConnected`] once discovery is disconnected or connected anew.
    pub fn instance(&self) -> Result<Option<Arc<ServiceInstance>>> {
        self.read(|snapshot| pick_one(snapshot).cloned())
    }

    /// Returns all instances that are registered, those that are never picked among them: without an address or port,
    /// or switched off.
    ///
    /// # Errors
    /// [`ErrorKind::NotConnected`] once discovery is disconnected or connected anew.
    pub fn instances(&self) -> Result<Vec<Arc<ServiceInstance>>> {
        self.read(|snapshot| snapshot.listed.clone())
    }

    /// Returns the nodes below the service whose data are not used, each with the reason: no JSON, a port that is no
    /// port, an address that is neither an IP nor a host name, a uri spec that would make a URL to somewhere else. Or
    /// ZooKeeper does not let this program read the node; that is tried again when its data change, and on every new
    /// connection.
    ///
    /// One that held a usable instance before is listed and picked as that until it goes. Each is a warning in the log
    /// when it is first seen.
    ///
    /// # Errors
    /// [`ErrorKind::NotConnected`] once discovery is disconnected or connected anew.
    ///
    /// # Examples
    /// ```no_run
    /// let provider = party::discovery::service_provider("user-sessions")?;
    /// for rejected in provider.rejected()? {
    ///     println!("{} is not used: {}", rejected.znode(), rejected.reason());
    /// }
    /// # Ok::<(), party::Error>(())
    /// ```
    pub fn rejected(&self) -> Result<Vec<RejectedInstance>> {
        self.read(|snapshot| snapshot.rejected.clone())
    }

    /// Has `listener` called with each change of the service, see [`discovery::on_change`](crate::discovery::on_change).
    ///
    /// # Errors
    /// [`ErrorKind::NotConnected`] once discovery is disconnected or connected anew, and [`ErrorKind::System`] where no
    /// thread can be started.
    pub fn on_change(
        &self,
        listener: impl FnMut(&Change) + Send + 'static,
    ) -> Result<Subscription> {
        self.directory.check_open()?;
        self.directory.on_change(&self.name, listener)
    }

    /// Reads the snapshot of the service, of which there may be none for a moment.
    fn read<T: Default>(&self, read: impl FnOnce(&Snapshot) -> T) -> Result<T> {
        self.directory.check_open()?;
        let view = self.directory.view();
        Ok(view
            .get(&self.name)
            .map_or_else(T::default, |snapshot| read(snapshot)))
    }
}

impl Drop for ServiceProvider {
    fn drop(&mut self) {
        self.directory.release(&self.name);
    }
}

impl fmt::Debug for ServiceProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceProvider")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// Picks one live instance of a service that is known.
pub(crate) fn pick<'a>(view: &'a View, name: &str) -> Option<&'a ServiceInstance> {
    let snapshot = view.get(name)?;
    snapshot.mark_used();
    pick_one(snapshot).map(|instance| &**instance)
}

/// Builds something of one live instance, in at most the connection timeout and, once the service was seen, in no time.
pub(crate) fn with_instance(
    directory: &Directory,
    name: &str,
    build: impl Fn(&ServiceInstance) -> Result<String>,
) -> Result<String> {
    directory.check_open()?;
    if let Some(snapshot) = directory.view().get(name) {
        snapshot.mark_used();
        return build(pick_or_say_why(directory, name, snapshot)?);
    }
    Service::check_name(name)?;
    let snapshot = directory.subscribe(name)?;
    build(pick_or_say_why(directory, name, &snapshot)?)
}

fn pick_or_say_why<'a>(
    directory: &Directory,
    name: &str,
    snapshot: &'a Snapshot,
) -> Result<&'a ServiceInstance> {
    let picked = pick_one(snapshot).ok_or_else(|| no_instance(directory, name, snapshot));
    picked.map(|instance| &**instance)
}

/// Returns the base URL of an instance that can be picked, and the suffix.
pub(crate) fn base_url(instance: &ServiceInstance, suffix: &str) -> Result<String> {
    Ok(append(instance.base_url().unwrap_or_default(), suffix))
}

/// Appends a suffix to a URL, in one allocation. Where the URL ends with its host or port, a suffix that would change
/// those gets a `/` before it.
pub(crate) fn append(url: &str, suffix: &str) -> String {
    let mut joined = String::with_capacity(url.len() + 1 + suffix.len());
    joined.push_str(url);
    if !suffix.is_empty() && !suffix.starts_with(ENDS) && !authority(url).contains(ENDS) {
        joined.push('/');
    }
    joined.push_str(suffix);
    joined
}

/// What ends the host and port of a URL.
const ENDS: [char; 3] = ['/', '?', '#'];

/// Returns what stands behind the scheme of a URL.
fn authority(url: &str) -> &str {
    url.split_once("://").map_or(url, |(_, rest)| rest)
}

/// What a URL may not be continued with: it would end the request line it is going to stand in.
pub(crate) fn check_suffix(suffix: &str) -> Result<()> {
    match suffix.chars().find(|c| c.is_control() || *c == ' ') {
        None => Ok(()),
        Some(_) => {
            let message = format!(
                "the suffix is {:?}, expected one without spaces and control characters",
                excerpt(suffix)
            );
            Err(Error::new(ErrorKind::InvalidParameter, message))
        }
    }
}

fn pick_one(snapshot: &Snapshot) -> Option<&Arc<ServiceInstance>> {
    match snapshot.pickable.as_slice() {
        [] => None,
        [only] => Some(only),
        several => several.get(random_below(several.len())),
    }
}

/// Returns a random index below `n`.
fn random_below(n: usize) -> usize {
    // Fast is enough, as nothing secret depends on it. A thread that is about to end may have lost its own.
    thread_local!(static RANDOM: RefCell<SmallRng> = RefCell::new(rand::make_rng()));
    let drawn = RANDOM.try_with(|own| own.try_borrow_mut().map_or(0, |mut own| own.next_u32()));
    // Scaled, which is uneven by less than one in a hundred thousand among ten thousand.
    let scaled = u64::from(drawn.unwrap_or(0)) * n as u64;
    (scaled >> u32::BITS) as usize
}

fn no_instance(directory: &Directory, name: &str, snapshot: &Snapshot) -> Error {
    let why = match snapshot.listed.len() {
        0 => match snapshot.rejected.as_slice() {
            [] => "none is registered".to_owned(),
            [first, ..] => format!("none is registered that can be used, such as {first}"),
        },
        1 => "the one registered is switched off or has no address or port".to_owned(),
        n => format!("all {n} registered are switched off or have no address or port"),
    };
    let stale = directory.stale_for().map_or_else(String::new, |age| {
        format!(", as far as is known: the connection to zookeeper was lost {age:.1?} ago")
    });
    Error::new(
        ErrorKind::NoInstance,
        format!(
            "Unable to find an instance of {}: {why}{stale}",
            excerpt(name)
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suffix_never_changes_where_a_url_points() {
        assert_eq!(append("http://h:80", "/x"), "http://h:80/x");
        assert_eq!(append("http://h:80", "?x"), "http://h:80?x");
        assert_eq!(append("http://h:80", ""), "http://h:80");
        assert_eq!(append("http://h:80", "80"), "http://h:80/80");
        assert_eq!(append("http://h:80", "@other"), "http://h:80/@other");
        assert_eq!(append("http://h:80/a", "b"), "http://h:80/ab");
    }

    #[test]
    fn a_suffix_with_a_space_or_a_control_character_is_refused() {
        assert!(check_suffix("/a?b=c#d").is_ok());
        assert_eq!(
            check_suffix("/a b").unwrap_err().kind(),
            ErrorKind::InvalidParameter
        );
        assert_eq!(
            check_suffix("/a\r\n").unwrap_err().kind(),
            ErrorKind::InvalidParameter
        );
    }
}
