//! Parses connection strings.

use crate::model::path::is_path;
use std::net::Ipv6Addr;

const DEFAULT_PORT: u16 = 2181;

const FORM: &str = "`host:port,host:port/chroot` or `memory:NAME`";
const HOST: &str =
    "`host:port,host:port/chroot` with valid host names and no scheme, user or query";
const SEPARATOR: &str = "`host:port,host:port/chroot`: separate servers with commas";
const PORT: &str = "`host:port,host:port/chroot` with a port of 1 to 65535";
const BRACKETS: &str = "an IPv6 address to stand in brackets, as in `[::1]:2181`";
const CHROOT: &str =
    "a chroot like `/a/b`, once, after the last host, without empty, `.` or `..` segments";
const MEMORY: &str = "`memory:NAME` with a name of letters, digits, `-`, `_` and `.`";

/// The registry that a connection string names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// The servers of an ensemble, as they were written.
    Ensemble(Vec<(String, u16)>),
    /// A registry inside this process, by its name.
    Memory(String),
}

/// Reads a connection string: what it names, and the chroot, empty where there is none.
///
/// An error is a phrase to stand after "expected".
pub(crate) fn parse(text: &str) -> Result<(Target, String), &'static str> {
    let text = text.trim();
    if text.contains("://") {
        return Err(HOST);
    }
    let (target, chroot) = text.split_at(text.find('/').unwrap_or(text.len()));
    let target = match target.strip_prefix("memory:") {
        Some(name) => Target::Memory(memory(name)?),
        None => Target::Ensemble(target.split(',').map(host).collect::<Result<_, _>>()?),
    };
    let chroot = if chroot == "/" { "" } else { chroot };
    // A comma is legal in a node's name, but here it is a chroot that was written behind every host.
    if !chroot.is_empty() && (chroot.contains(',') || !is_path(chroot)) {
        return Err(CHROOT);
    }
    Ok((target, chroot.to_owned()))
}

fn memory(name: &str) -> Result<String, &'static str> {
    let valid = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || !name.chars().all(valid) {
        return Err(MEMORY);
    }
    Ok(name.to_owned())
}

fn host(text: &str) -> Result<(String, u16), &'static str> {
    let text = text.trim();
    if text.contains([';', ' ']) {
        return Err(SEPARATOR);
    }
    if let Some(rest) = text.strip_prefix('[') {
        let (address, port) = rest.split_once(']').ok_or(BRACKETS)?;
        let address: Ipv6Addr = address.parse().map_err(|_| BRACKETS)?;
        let port = match port {
            "" => DEFAULT_PORT,
            port => parse_port(port.strip_prefix(':').ok_or(PORT)?)?,
        };
        return Ok((address.to_string(), port));
    }
    let (name, port) = match text.split_once(':') {
        Some((_, port)) if port.contains(':') => return Err(BRACKETS),
        Some((name, port)) => (name, parse_port(port)?),
        None => (text, DEFAULT_PORT),
    };
    match name {
        "" => Err(FORM),
        name if name.chars().all(is_host_char) => Ok((name.to_owned(), port)),
        _ => Err(HOST),
    }
}

fn is_host_char(c: char) -> bool {
    !c.is_whitespace() && !c.is_control() && !"@?#%&=[]{}()<>\\|\"'`;".contains(c)
}

fn parse_port(text: &str) -> Result<u16, &'static str> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse()
        .ok()
        .filter(|port| digits && *port != 0)
        .ok_or(PORT)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(text: &str) -> Vec<(String, u16)> {
        match parse(text).unwrap().0 {
            Target::Ensemble(hosts) => hosts,
            Target::Memory(name) => panic!("{text} names the registry {name}"),
        }
    }

    fn chroot(text: &str) -> String {
        parse(text).unwrap().1
    }

    fn host(name: &str, port: u16) -> (String, u16) {
        (name.into(), port)
    }

    #[track_caller]
    fn all_are_refused(texts: &[&str], expected: &'static str) {
        for text in texts {
            assert_eq!(parse(text), Err(expected), "{text:?}");
        }
    }

    #[test]
    fn a_connection_string_lists_hosts_and_a_chroot() {
        let text = "zk1:2181,zk2.example.org:3000/a/b";
        assert_eq!(
            hosts(text),
            [host("zk1", 2181), host("zk2.example.org", 3000)]
        );
        assert_eq!(chroot(text), "/a/b");
    }

    #[test]
    fn a_port_that_is_left_out_is_2181() {
        assert_eq!(
            hosts("zk_1,10.0.0.1,[::1]"),
            [
                host("zk_1", 2181),
                host("10.0.0.1", 2181),
                host("::1", 2181)
            ]
        );
    }

    #[test]
    fn spaces_may_stand_around_commas_and_the_whole() {
        assert_eq!(
            hosts(" zk1:1 , zk2:2\t,zk3 \n"),
            [host("zk1", 1), host("zk2", 2), host("zk3", 2181)]
        );
        assert_eq!(chroot("zk1 /a "), "/a");
    }

    #[test]
    fn an_ipv6_address_stands_in_brackets() {
        assert_eq!(
            hosts("[FD00::2]:2182,[::ffff:10.0.0.1]"),
            [host("fd00::2", 2182), host("::ffff:10.0.0.1", 2181)]
        );
        all_are_refused(
            &[
                "::1",
                "::1:2181",
                "fd00::2,zk1",
                "[::1",
                "[zk1]:2181",
                "[]:1",
                "[fe80::1%eth0]:2181",
            ],
            BRACKETS,
        );
    }

    #[test]
    fn a_chroot_of_a_slash_is_none() {
        for text in [
            "zk1",
            "zk1/",
            "zk1:2181/",
            "[::1]:1/",
            "memory:a/",
            "memory:a",
        ] {
            assert_eq!(chroot(text), "", "{text}");
        }
    }

    #[test]
    fn a_chroot_that_zookeeper_would_refuse_is_refused() {
        all_are_refused(
            &[
                "zk1//",
                "zk1//a",
                "zk1/a/",
                "zk1/a//b",
                "zk1/.",
                "zk1/a/../b",
                "zk1/a\nb",
                "zk1/a\u{1f600}",
            ],
            CHROOT,
        );
        assert_eq!(chroot("zk1/a b/…/ä"), "/a b/…/ä");
    }

    #[test]
    fn a_chroot_behind_every_host_is_refused() {
        assert_eq!(parse("zk1:2181/a,zk2:2181/a"), Err(CHROOT));
    }

    #[test]
    fn a_registry_in_memory_is_named() {
        assert_eq!(
            parse("memory:dev-1"),
            Ok((Target::Memory("dev-1".into()), String::new()))
        );
        assert_eq!(
            parse("memory:dev/a"),
            Ok((Target::Memory("dev".into()), "/a".into()))
        );
        all_are_refused(
            &[
                "memory:",
                "memory:/a",
                "memory:a b",
                "memory:a,b",
                "memory:a:b",
            ],
            MEMORY,
        );
    }

    #[test]
    fn a_port_is_a_number_of_1_to_65535() {
        all_are_refused(
            &[
                "zk1:",
                "zk1:0",
                "zk1:65536",
                "zk1:+1",
                "zk1:-1",
                "zk1:x",
                "[::1]2181",
                "[::1]:",
            ],
            PORT,
        );
    }

    #[test]
    fn an_empty_host_is_refused() {
        all_are_refused(
            &[
                "", " ", ",", "zk1,", ",zk1", "zk1,,zk2", ":2181", "/a", "zk1, /a",
            ],
            FORM,
        );
    }

    #[test]
    fn what_is_not_a_host_is_refused() {
        let texts = [
            "zookeeper://zk1",
            "http://zk1:2181/a",
            "zk\u{7}1",
            "me@zk1",
            "zk1?x=1",
            "zk1#a",
        ];
        all_are_refused(&texts, HOST);
    }

    #[test]
    fn servers_that_are_not_separated_by_commas_are_told_so() {
        all_are_refused(
            &["zk1:2181;zk2:2181", "zk1;zk2/a", "zk1:2181 zk2:2181", "a b"],
            SEPARATOR,
        );
    }
}
