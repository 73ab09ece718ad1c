//! Parses connection strings.

use super::slips::slip;
use crate::excerpt::{distance, excerpt};
use crate::model::path::is_path;
use std::net::{Ipv4Addr, Ipv6Addr};

const DEFAULT_PORT: u16 = 2181;

const FORM: &str = "`host:port,host:port/chroot` or `memory:NAME`";
const SEPARATOR: &str = "`host:port,host:port/chroot`: separate servers with commas";
const PORT: &str = "`host:port,host:port/chroot` with a port of 1 to 65535";
const BRACKETS: &str = "an IPv6 address to be in brackets, as in `[::1]:2181`";
const CHROOT: &str =
    "a chroot like `/a/b`, once, after the last host, without empty, `.` or `..` segments";
const MEMORY: &str = "`memory:NAME` with a name of letters, digits, `-`, `_` and `.`";
const NUMBERS: &str = "an IPv4 address to have four numbers of 0 to 255";

/// The registry that a connection string names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// The servers of an ensemble, as they were written.
    Ensemble(Vec<(String, u16)>),
    /// A registry inside this process, by its name.
    Memory(String),
}

/// Reads a connection string. Returns the registry, and the chroot, which is empty if there is none.
///
/// An error is a phrase for "…, expected …".
pub(crate) fn parse(text: &str) -> Result<(Target, String), String> {
    let text = text.trim();
    if let Some((scheme, rest)) = text.split_once("://") {
        return Err(match is_like_memory(scheme) {
            true => format!("`memory:{}`", excerpt(rest)),
            false => format!("the servers without `{}://`", excerpt(scheme)),
        });
    }
    let (servers, chroot) = text.split_at(text.find('/').unwrap_or(text.len()));
    let target = match servers.strip_prefix("memory:") {
        Some(name) => Target::Memory(memory(name)?),
        None => Target::Ensemble(ensemble(servers)?),
    };
    let chroot = if chroot == "/" { "" } else { chroot };
    // A comma is legal in the name of a node, but here the chroot was written after every host.
    if !chroot.is_empty() && (chroot.contains(',') || !is_path(chroot)) {
        return Err(CHROOT.to_owned());
    }
    let mut segments = chroot.split('/');
    match segments.find_map(slip) {
        Some(slip) => Err(slip),
        None => Ok((target, chroot.to_owned())),
    }
}

fn memory(name: &str) -> Result<String, &'static str> {
    let valid = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || !name.chars().all(valid) {
        return Err(MEMORY);
    }
    Ok(name.to_owned())
}

/// Reads the servers. Empty ones are left out, as the Java client does: a list that a script has joined ends in a comma.
fn ensemble(servers: &str) -> Result<Vec<(String, u16)>, String> {
    let servers = servers.split(',').map(str::trim);
    let servers: Vec<_> = servers.filter(|server| !server.is_empty()).collect();
    if servers.is_empty() {
        return Err(FORM.to_owned());
    }
    servers.into_iter().map(server).collect()
}

fn server(text: &str) -> Result<(String, u16), String> {
    if let Some(slip) = slip(text) {
        return Err(slip);
    }
    if text.contains([';', ' ']) {
        return Err(SEPARATOR.to_owned());
    }
    if let Some(rest) = text.strip_prefix('[') {
        let (address, port) = rest.split_once(']').ok_or(BRACKETS)?;
        let address: Ipv6Addr = address.parse().map_err(|_| BRACKETS)?;
        let port = match port {
            "" => DEFAULT_PORT,
            port => parse_port(port.strip_prefix(':').ok_or(PORT)?).ok_or(PORT)?,
        };
        return Ok((address.to_string(), port));
    }
    let unfit = |c: &char| !c.is_ascii_alphanumeric() && !matches!(c, '-' | '_' | '.' | ':');
    if let Some(unfit) = text.chars().find(unfit) {
        let (shown, code) = (
            excerpt(unfit.encode_utf8(&mut [0; 4])).to_string(),
            u32::from(unfit),
        );
        return Err(format!(
            "servers without `{shown}` (U+{code:04X}), separated with commas"
        ));
    }
    let (name, port) = match text.split_once(':') {
        Some((_, port)) if port.contains(':') => return Err(BRACKETS.to_owned()),
        Some((name, port)) => (name, Some(port)),
        None => (text, None),
    };
    // The resolver also reads `10.1` and `12345` as IPv4 addresses. They are always a mistake.
    let ends_in_number = name.ends_with(|c: char| c.is_ascii_digit())
        && name.rsplit('.').next().is_some_and(is_number);
    match port.map_or(Some(DEFAULT_PORT), parse_port) {
        _ if name.is_empty() => Err(FORM.to_owned()),
        None if is_like_memory(name) => Err(format!(
            "a server or `memory:NAME`: unknown scheme `{name}:`; did you mean `memory:`?"
        )),
        None => Err(PORT.to_owned()),
        Some(_) if ends_in_number && name.parse::<Ipv4Addr>().is_err() => Err(NUMBERS.to_owned()),
        Some(port) => Ok((name.to_owned(), port)),
    }
}

/// Returns whether a scheme was probably meant to be `memory`.
fn is_like_memory(scheme: &str) -> bool {
    let scheme = scheme.to_ascii_lowercase();
    distance(&scheme, "memory") <= 2 || scheme.starts_with("mem") || scheme.ends_with("memory")
}

fn parse_port(text: &str) -> Option<u16> {
    let port = text.parse().ok()?;
    (is_number(text) && port != 0).then_some(port)
}

fn is_number(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
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
    fn all_are_refused(texts: &[&str], expected: &str) {
        for text in texts {
            assert_eq!(parse(text), Err(expected.to_owned()), "{text:?}");
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
                "zk1/a\u{1f600}",
            ],
            CHROOT,
        );
        assert_eq!(chroot("zk1/a b/…/ä"), "/a b/…/ä");
    }

    #[test]
    fn a_chroot_behind_every_host_is_refused() {
        all_are_refused(&["zk1:2181/a,zk2:2181/a"], CHROOT);
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
                "zk1:-1",
                "zk1:x",
                "[::1]2181",
                "[::1]:",
            ],
            PORT,
        );
    }

    #[test]
    fn empty_servers_are_left_out_and_one_has_to_be_left() {
        for text in ["zk1:2181,", ",zk1", "zk1,,", ", zk1 ,,"] {
            assert_eq!(hosts(text), [host("zk1", 2181)], "{text:?}");
        }
        assert_eq!(hosts("zk1,,zk2"), [host("zk1", 2181), host("zk2", 2181)]);
        assert_eq!(chroot("zk1,/a"), "/a");
        all_are_refused(&["", " ", ",", " , ", ":2181", "/a", ", /a", ",/a"], FORM);
    }

    #[track_caller]
    fn each_is_refused(texts: &[(&str, &str)]) {
        for (text, expected) in texts {
            let error = parse(text).map(drop).unwrap_err();
            assert!(error.contains(expected), "{text:?}: {error}");
        }
    }

    #[test]
    fn a_server_that_is_none_is_refused() {
        each_is_refused(&[
            ("zookeeper://zk1", "the servers without `zookeeper://`"),
            ("http://zk1:2181/a", "the servers without `http://`"),
            ("me@zk1", "servers without `@` (U+0040)"),
            ("zk1?x=1", "servers without `?` (U+003F)"),
            ("zk1#a", "servers without `#` (U+0023)"),
            ("zk1:2181，zk2:2181", "servers without `，` (U+FF0C)"),
            ("zk1、zk2", "servers without `、` (U+3001)"),
            ("zk1：2181", "servers without `：` (U+FF1A)"),
            ("zk1:２181", "servers without `２` (U+FF12)"),
            ("zk1:+1", "servers without `+` (U+002B)"),
            ("größe:2181", "servers without `ö` (U+00F6)"),
        ]);
        all_are_refused(
            &["10.0.0.256", "10.0.0", "12345:2181", "zk1,1.2.3.4.5"],
            NUMBERS,
        );
        assert_eq!(
            hosts("zk.1a,zk-1."),
            [host("zk.1a", 2181), host("zk-1.", 2181)]
        );
    }

    #[test]
    fn a_slip_is_refused_in_a_server_and_in_a_chroot() {
        each_is_refused(&[
            ("\"zk1:2181\"", "without quotes"),
            ("'zk1:2181,zk2:2181'", "without quotes"),
            ("zk1:2181,\"zk2:2181\"", "without quotes"),
            ("zk1/\"apps\"", "without quotes"),
            ("zk1/apps'", "without quotes"),
            ("$ZK", "was not replaced"),
            ("${ZK}:2181", "was not replaced"),
            ("zk1:${PORT}", "was not replaced"),
            ("{{ zk }}/apps", "was not replaced"),
            ("%ZK%", "was not replaced"),
            ("zk1:2181/${APP}", "was not replaced"),
            ("zk1:2181/$APP/b", "was not replaced"),
            ("zk1:2181 # the usual", "without a comment"),
            ("zk1:2181/apps # the usual", "without a comment"),
            ("zk1/ apps", "without blanks"),
            ("zk\u{7}1", "control character U+0007"),
            ("zk1/a\u{200b}", "invisible character U+200B"),
            ("ZK=zk1:2181", "without `ZK=`"),
            ("undefined", "if they have none"),
            ("zk1/null", "if they have none"),
        ]);
    }

    #[test]
    fn a_scheme_that_was_meant_to_be_memory_is_recognized() {
        for text in ["memry:x", "memorry:x", "Memory:x", "mem:x", "in-memory:x"] {
            each_is_refused(&[(text, "unknown scheme"), (text, "did you mean `memory:`?")]);
        }
        each_is_refused(&[("memory://x", "`memory:x`")]);
        all_are_refused(&["zk1:x", "zoo:keeper"], PORT);
    }

    #[test]
    fn servers_that_are_not_separated_by_commas_are_refused() {
        all_are_refused(
            &["zk1:2181;zk2:2181", "zk1;zk2/a", "zk1:2181 zk2:2181", "a b"],
            SEPARATOR,
        );
    }
}
