//! The services and environments near a service that has no instance, for the error of its lookup.

use crate::excerpt::{distance, excerpt};
use crate::zk::generation::Generation;
use crate::zk::{Failure, Reply, Request};
use std::time::{Duration, Instant};

/// Names that are listed. More are counted.
const MOST_SHOWN: usize = 4;
/// Nodes that are looked at to find environments, the most similar names first.
const MOST_LOOKED_AT: usize = 20;
/// Time after which an older answer says little about what is registered.
const KEPT: Duration = Duration::from_secs(60);
/// An answer of this age is shown with its age.
const OLD: Duration = Duration::from_secs(5);

/// What was registered near a service when it was first looked up.
#[derive(Debug)]
pub(crate) struct Nearby {
    text: String,
    at: Instant,
}

/// The place at which the instances of a service are expected.
pub(crate) struct Place<'a> {
    pub(crate) chroot: &'a str,
    pub(crate) environment: &'a str,
    /// The node of all services of the environment.
    pub(crate) instances: &'a str,
    pub(crate) service: &'a str,
}

impl Nearby {
    /// Asks ZooKeeper over this connection, at most until `deadline`. Returns `None` if it does not answer.
    pub(crate) fn look(
        generation: &Generation,
        place: &Place<'_>,
        deadline: Instant,
    ) -> Option<Nearby> {
        let children = |path: &str| {
            let path = path.to_owned();
            let answer = generation.call(Request::Children { path }, deadline);
            answer.map(Reply::names)
        };
        let exists = |path: String| {
            let answer = generation.call(Request::Exists { path, watch: false }, deadline);
            answer.map(|reply| reply.status().is_some())
        };
        let text = describe(place, children, exists).ok()?;
        let at = Instant::now();
        Some(Nearby { text, at })
    }

    /// Returns a text to put after the reason, which is empty if the answer is too old.
    pub(crate) fn shown(&self) -> String {
        let text = &self.text;
        match self.at.elapsed() {
            age if age > KEPT => String::new(),
            age if age > OLD => format!(" ({}s ago: {text})", age.as_secs()),
            _ => format!(" ({text})"),
        }
    }
}

/// Describes the other services of the environment, or if there are none, the environments.
fn describe(
    place: &Place<'_>,
    children: impl Fn(&str) -> Result<Option<Vec<String>>, Failure>,
    exists: impl Fn(String) -> Result<bool, Failure>,
) -> Result<String, Failure> {
    let Place {
        chroot,
        environment,
        instances,
        service,
    } = place;
    let mut services = children(instances)?.unwrap_or_default();
    services.retain(|name| name != service);
    if !services.is_empty() {
        return Ok(format!(
            "registered there: {}",
            nearest_first(services, service)
        ));
    }
    let root = if chroot.is_empty() { "/" } else { chroot };
    let Some(mut nodes) = children(root)? else {
        return Ok(format!("the chroot {} does not exist", excerpt(root)));
    };
    nodes.sort_by_cached_key(|name| distance(name, environment));
    nodes.truncate(MOST_LOOKED_AT);
    let mut environments = Vec::new();
    for name in nodes {
        if name != *environment && exists(format!("{chroot}/{name}/instances"))? {
            environments.push(name);
        }
    }
    let environment = excerpt(environment);
    if environments.is_empty() {
        return Ok(format!(
            "{environment} has no services, and there is no other environment"
        ));
    }
    let others = nearest_first(environments, place.environment);
    Ok(format!(
        "{environment} has no services; other environments: {others}"
    ))
}

/// Lists names, the most similar to `name` first.
fn nearest_first(mut names: Vec<String>, name: &str) -> String {
    names.sort();
    names.sort_by_cached_key(|other| distance(other, name));
    let more = match names.len() {
        all if all <= MOST_SHOWN => None,
        all => Some(all - (MOST_SHOWN - 1)),
    };
    names.truncate(more.map_or(MOST_SHOWN, |_| MOST_SHOWN - 1));
    let shown = names.iter().map(|name| excerpt(name).to_string());
    let more = more.map(|more| format!("{more} more"));
    shown.chain(more).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Describes the surroundings of `usres` in the environment `live`, below a chroot.
    fn described(nodes: &[&str]) -> String {
        let place = Place {
            chroot: "/apps",
            environment: "live",
            instances: "/apps/live/instances",
            service: "usres",
        };
        let children = |path: &str| {
            let below = |node: &&str| {
                node.strip_prefix(path)?
                    .strip_prefix('/')
                    .map(str::to_owned)
            };
            let direct = nodes.iter().filter_map(below);
            let direct = direct.filter(|name| !name.contains('/')).collect();
            Ok(nodes.contains(&path).then_some(direct))
        };
        let exists = |path: String| Ok(nodes.contains(&path.as_str()));
        describe(&place, children, exists).unwrap()
    }

    #[test]
    fn the_other_services_are_listed_the_most_similar_first() {
        let environment = ["/apps", "/apps/live", "/apps/live/instances"];
        let with = |names: &[&str]| {
            let services = names
                .iter()
                .map(|name| format!("/apps/live/instances/{name}"));
            let services: Vec<_> = services.collect();
            let all = environment
                .into_iter()
                .chain(services.iter().map(String::as_str));
            described(&all.collect::<Vec<_>>())
        };
        assert_eq!(
            with(&["usres", "orders", "users"]),
            "registered there: users, orders"
        );
        let five = with(&["aaaaaaaaa", "bbbbbbbbb", "ccccccccc", "users", "orders"]);
        assert_eq!(five, "registered there: users, orders, aaaaaaaaa, 2 more");
        let four = with(&["aaaaaaaaa", "bbbbbbbbb", "users", "orders"]);
        assert_eq!(
            four,
            "registered there: users, orders, aaaaaaaaa, bbbbbbbbb"
        );
    }

    #[test]
    fn without_other_services_the_environments_are_listed() {
        assert_eq!(described(&[]), "the chroot /apps does not exist");
        assert_eq!(
            described(&["/apps", "/apps/kafka"]),
            "live has no services, and there is no other environment"
        );
        let nodes = ["/apps", "/apps/lvie", "/apps/lvie/instances", "/apps/kafka"];
        let lvie = "live has no services; other environments: lvie";
        assert_eq!(described(&nodes), lvie);
        let own = [
            "/apps/live",
            "/apps/live/instances",
            "/apps/live/instances/usres",
        ];
        assert_eq!(described(&[&nodes[..], &own].concat()), lvie);
    }

    #[test]
    fn an_old_answer_has_its_age_and_a_very_old_one_is_not_shown() {
        let shown = |seconds| {
            let at = Instant::now()
                .checked_sub(Duration::from_secs(seconds))
                .unwrap();
            let text = "registered there: users".to_owned();
            Nearby { text, at }.shown()
        };
        assert_eq!(shown(0), " (registered there: users)");
        assert_eq!(shown(10), " (10s ago: registered there: users)");
        assert_eq!(shown(61), "");
    }
}
