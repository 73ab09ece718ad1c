//! Requests as calls that wait for their answers, for tests to look at a registry and interfere with it.

use super::Session;
use super::state::{Link, lost};
use crate::zk::{Answer, Failure, Mode, Node, Reply, Request, Stat};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

impl Session {
    pub(crate) fn id(&self) -> i64 {
        self.id
    }

    fn call(&self, request: Request) -> Answer {
        let Link::Up(connection) = self.link() else {
            return Err(lost());
        };
        let (answer, answers) = channel();
        let done = Box::new(move |outcome| answer.send(outcome).unwrap());
        self.submit(connection, request, done);
        answers.recv().unwrap()
    }

    pub(crate) fn create(&self, path: &str, data: &[u8], mode: Mode) -> Result<(), Failure> {
        let (path, data) = (path.to_owned(), data.into());
        self.call(Request::Create { path, data, mode }).map(drop)
    }

    pub(crate) fn exists(&self, path: &str, watch: bool) -> Result<Option<Stat>, Failure> {
        let path = path.to_owned();
        self.call(Request::Exists { path, watch })
            .map(Reply::status)
    }

    pub(crate) fn get(&self, path: &str) -> Result<Option<Node>, Failure> {
        let paths = vec![path.to_owned()];
        self.call(Request::Read { paths })?.node()
    }

    pub(crate) fn set(
        &self,
        path: &str,
        data: &[u8],
        version: i32,
    ) -> Result<Option<Stat>, Failure> {
        let (path, data) = (path.to_owned(), data.into());
        let request = Request::Set {
            path,
            data,
            version,
        };
        self.call(request).map(Reply::status)
    }

    pub(crate) fn delete(&self, path: &str, version: i32) -> Result<(), Failure> {
        let path = path.to_owned();
        self.call(Request::Delete { path, version }).map(drop)
    }

    pub(crate) fn children(&self, path: &str) -> Result<Option<Vec<String>>, Failure> {
        let path = path.to_owned();
        self.call(Request::Children { path }).map(Reply::names)
    }

    pub(crate) fn watch_tree(&self, path: &str) -> Result<(), Failure> {
        let path = path.to_owned();
        self.call(Request::WatchTree { path }).map(drop)
    }

    pub(crate) fn unwatch(&self, path: &str) -> Result<(), Failure> {
        let path = path.to_owned();
        self.call(Request::Unwatch { path }).map(drop)
    }

    pub(crate) fn ephemerals(&self, path: &str) -> Result<Vec<String>, Failure> {
        let path = path.to_owned();
        let owned = self.call(Request::Ephemerals { path }).map(Reply::names);
        owned.map(Option::unwrap_or_default)
    }

    pub(crate) fn end(&self) -> bool {
        self.close(Instant::now() + Duration::from_secs(20))
    }
}
