//! Paths of services and their instances in ZooKeeper.

/// Returns the path of the node of an environment. The chroot is empty or a path.
pub(crate) fn environment(chroot: &str, environment: &str) -> String {
    // Lower-cased here, so that no caller can make two environments of `Dev` and `dev`.
    format!("{chroot}/{}", environment.to_lowercase())
}

/// Returns the path of the node that holds all services of an environment. The chroot is empty or a path.
pub(crate) fn instances(chroot: &str, environment: &str) -> String {
    format!("{}/instances", self::environment(chroot, environment))
}

/// Returns the path of the node that holds the instances of one service.
pub(crate) fn service(instances: &str, name: &str) -> String {
    format!("{instances}/{name}")
}

/// Returns the path of one instance.
pub(crate) fn instance(service_path: &str, id: &str) -> String {
    format!("{service_path}/{id}")
}

/// Returns the name of the node at `path` if it is a direct child of `parent`.
pub(crate) fn child_of<'a>(parent: &str, path: &'a str) -> Option<&'a str> {
    // A watch on a tree reports grandchildren as well, and the parent itself.
    let parent = parent.strip_suffix('/').unwrap_or(parent);
    let name = path.strip_prefix(parent)?.strip_prefix('/')?;
    (!name.is_empty() && !name.contains('/')).then_some(name)
}

/// Returns the paths of all ancestors, from the root down, without the root and without the path itself.
pub(crate) fn parents(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('/')
        .filter(|(at, _)| *at > 0)
        .filter_map(|(at, _)| path.get(..at))
}

/// Checks that a text can be one segment of a znode's path. The error is a phrase for "…, expected …".
pub(crate) fn check_segment(text: &str) -> Result<(), &'static str> {
    if text.is_empty() {
        return Err("a name that is not empty");
    }
    if text.contains('/') {
        return Err("a name without `/`");
    }
    if matches!(text, "." | "..") {
        return Err("a name other than `.` and `..`");
    }
    if text.contains(is_refused) {
        return Err("a name without characters that ZooKeeper refuses");
    }
    Ok(())
}

/// Returns whether ZooKeeper accepts this as an absolute path other than the root.
pub(crate) fn is_path(path: &str) -> bool {
    let valid = |segment| check_segment(segment).is_ok();
    path.strip_prefix('/')
        .is_some_and(|path| path.split('/').all(valid))
}

// ZooKeeper looks at UTF-16 units and refuses surrogates, so it refuses every character beyond U+FFFF too.
fn is_refused(character: char) -> bool {
    matches!(
        character,
        '\u{0}'..='\u{1F}' | '\u{7F}'..='\u{9F}' | '\u{E000}'..='\u{F8FF}' | '\u{FFF0}'..='\u{10FFFF}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_stands_below_its_environment_and_service() {
        let instances = instances("", "dev");
        assert_eq!(instances, "/dev/instances");
        let service = service(&instances, "foo");
        assert_eq!(service, "/dev/instances/foo");
        assert_eq!(instance(&service, "i-1"), "/dev/instances/foo/i-1");
    }

    #[test]
    fn a_chroot_goes_before_the_environment() {
        assert_eq!(instances("/a/b", "dev"), "/a/b/dev/instances");
    }

    #[test]
    fn the_environment_is_lower_cased_and_nothing_else_is() {
        let instances = instances("/Chroot", "PreProd");
        assert_eq!(instances, "/Chroot/preprod/instances");
        assert_eq!(service(&instances, "Foo"), "/Chroot/preprod/instances/Foo");
        assert_eq!(instance("/S", "ID"), "/S/ID");
    }

    #[test]
    fn a_direct_child_is_named_and_nothing_else_is() {
        assert_eq!(child_of("/a/b", "/a/b/c d"), Some("c d"));
        assert_eq!(child_of("/", "/a"), Some("a"));
        assert_eq!(child_of("", "/a"), Some("a"));
        for path in [
            "/a/b", "/a/b/", "/a/b/c/d", "/a/bc", "/a/bc/d", "/a", "/", "", "/x/b/c",
        ] {
            assert_eq!(child_of("/a/b", path), None, "{path}");
        }
    }

    #[test]
    fn parents_come_from_the_root_down() {
        let all = |path| parents(path).collect::<Vec<_>>();
        assert_eq!(all("/a/b/ü/d"), ["/a", "/a/b", "/a/b/ü"]);
        assert!(all("/a").is_empty());
        assert!(all("/").is_empty());
        assert!(all("").is_empty());
    }

    #[test]
    fn spaces_and_other_scripts_can_stand_in_a_segment() {
        for text in [
            "foo",
            "user sessions",
            " ",
            "...",
            ".a",
            "grüße-日本語",
            "a\\b?#%",
            "\u{A0}\u{D7FF}\u{F900}\u{FFEF}",
        ] {
            assert_eq!(check_segment(text), Ok(()), "{text:?}");
        }
    }

    #[test]
    fn what_is_no_single_segment_is_refused() {
        assert_eq!(check_segment(""), Err("a name that is not empty"));
        for text in ["/", "a/b", "/a", "a/"] {
            assert_eq!(check_segment(text), Err("a name without `/`"), "{text:?}");
        }
        for text in [".", ".."] {
            let expected = Err("a name other than `.` and `..`");
            assert_eq!(check_segment(text), expected, "{text:?}");
        }
    }

    #[test]
    fn what_zookeeper_refuses_in_a_segment_is_refused_here() {
        for refused in [
            '\u{0}',
            '\u{1}',
            '\n',
            '\u{1F}',
            '\u{7F}',
            '\u{80}',
            '\u{9F}',
            '\u{E000}',
            '\u{F8FF}',
            '\u{FFF0}',
            '\u{FFFD}',
            '\u{FFFF}',
            '\u{10000}',
            '🎉',
            '\u{10FFFF}',
        ] {
            let expected = Err("a name without characters that ZooKeeper refuses");
            assert_eq!(
                check_segment(&format!("a{refused}b")),
                expected,
                "{refused:?}"
            );
        }
    }
}
