//! The process of a server.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;

/// Starts java in the background, says its process id, and kills it when this end of the pipe closes: however the
/// test process ends, no server is left behind, nor its directory unless somebody said that he takes care of that.
/// As it waits for java, that is gone once this has ended.
const WRAPPER: &str = r#"
"$@" >"$DIRECTORY/log" 2>&1 &
echo $!
read -r kept
{ kill -KILL $!; wait $!; } 2>/dev/null
[ -n "$kept" ] || rm -rf "$DIRECTORY"
"#;

const JAVA: [&str; 6] = [
    "java",
    "-Xmx256m",
    "-XX:TieredStopAtLevel=1",
    "-XX:+UseSerialGC",
    "-Dzookeeper.forceSync=no",
    "-Dzookeeper.jmx.log4j.disable=true",
];

/// A server's process, killed on drop, which keeps its directory.
#[derive(Debug)]
pub(super) struct Java {
    wrapper: Child,
    pid: u32,
}

impl Java {
    /// Starts a server on the configuration in its directory.
    pub(super) fn start(directory: &Path, properties: &[String]) -> Java {
        let logging = directory.join("log4j.properties");
        let mut wrapper = Command::new("sh")
            .args(["-c", WRAPPER, "sh"])
            .args(JAVA)
            .arg(format!("-Dlog4j.configuration=file:{}", logging.display()))
            .args(properties.iter().map(|property| format!("-D{property}")))
            .args(["-cp", &CLASSPATH])
            .arg("org.apache.zookeeper.server.quorum.QuorumPeerMain")
            .arg(directory.join("zoo.cfg"))
            .env("DIRECTORY", directory)
            // An interrupt from the terminal would end the wrapper, and java ignores it.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let pid = first_line(wrapper.stdout.as_mut().unwrap());
        Java {
            pid: pid.parse().unwrap(),
            wrapper,
        }
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid
    }
}

impl Drop for Java {
    fn drop(&mut self) {
        if let Some(stdin) = &mut self.wrapper.stdin {
            let _ = stdin.write_all(b"kept\n");
        }
        let _ = self.wrapper.wait();
    }
}

static CLASSPATH: LazyLock<String> = LazyLock::new(|| {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/zookeeper");
    let found = Command::new(script).arg("classpath").output().unwrap();
    let java = Command::new("java").arg("-version").output().is_ok();
    assert!(
        found.status.success() && java,
        "these tests need a ZooKeeper: run `scripts/zookeeper install`, or set ZOOKEEPER_HOME, or run all of it \
         through `scripts/test` ({}{})",
        String::from_utf8_lossy(&found.stderr).trim(),
        if java { "" } else { "; java is missing" }
    );
    String::from_utf8(found.stdout).unwrap().trim().to_owned()
});

fn first_line(stream: impl Read) -> String {
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).unwrap();
    line.trim().to_owned()
}
