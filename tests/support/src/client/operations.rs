//! What a client does with nodes.

use super::connection::Reply;
use super::wire::{self, In, Out, Stat};
use super::{Client, Error, Kind};
use std::io;
use std::time::Instant;

const ANY_VERSION: i32 = -1;

/// Data and what is known about their node, `None` where there is no such node.
pub type Found = Option<(Vec<u8>, Stat)>;

/// Permissions, scheme and id, as in `(31, "world", "anyone")`.
pub type Acl = (i32, String, String);

impl Client {
    /// Creates a node that is open to the world.
    ///
    /// # Errors
    ///
    /// [`Error::NoNode`] where the parent is missing, [`Error::NodeExists`] where the node is not.
    pub fn create(&self, path: &str, data: &[u8], kind: Kind) -> Result<(), Error> {
        let (op, flags) = match kind {
            Kind::Persistent => (wire::CREATE, 0),
            Kind::Ephemeral => (wire::CREATE, 1),
            Kind::Container => (wire::CREATE_CONTAINER, 4),
        };
        let body = Out::default().string(path).buffer(data).open_acl();
        self.call(op, body.int(flags)).map(drop)
    }

    /// Creates a node, and as persistent nodes whatever of its parents is missing.
    ///
    /// # Errors
    ///
    /// As for [`create`](Client::create), and where a parent cannot be created.
    pub fn create_all(&self, path: &str, data: &[u8], kind: Kind) -> Result<(), Error> {
        for (at, _) in path.match_indices('/').skip(1) {
            match self.create(&path[..at], b"", Kind::Persistent) {
                Ok(()) | Err(Error::NodeExists) => {}
                Err(error) => return Err(error),
            }
        }
        self.create(path, data, kind)
    }

    /// Returns the data of a node and what is known about it, `None` where there is no such node.
    ///
    /// # Errors
    ///
    /// [`Error::NoAuth`] where the node is not open to us.
    pub fn get(&self, path: &str) -> Result<Found, Error> {
        self.get_at(path).map(|(_, found)| found)
    }

    /// Like `get`, and tells when the answer was received, which orders it among the events.
    pub(crate) fn get_at(&self, path: &str) -> Result<(Instant, Found), Error> {
        let reply = self.call_any(wire::GET_DATA, Out::default().string(path).bool(false))?;
        let found = found(reply.checked())?;
        let read = |mut body: In<'_>| io::Result::Ok((body.buffer()?, body.stat()?));
        Ok((reply.at, found.map(read).transpose()?))
    }

    /// Returns the data of a node as text.
    ///
    /// # Errors
    ///
    /// As for [`get`](Client::get).
    ///
    /// # Panics
    ///
    /// Where they are not UTF-8.
    pub fn text(&self, path: &str) -> Result<Option<String>, Error> {
        let found = self.get(path)?;
        Ok(found.map(|(data, _)| String::from_utf8(data).unwrap()))
    }

    /// Returns what is known about a node, `None` where there is no such node.
    ///
    /// # Errors
    ///
    /// Where the connection fails.
    pub fn exists(&self, path: &str) -> Result<Option<Stat>, Error> {
        let body = Out::default().string(path).bool(false);
        self.find(wire::EXISTS, body, |mut body| body.stat())
    }

    /// Returns whether there is such a node, and panics where the connection fails.
    pub fn has(&self, path: &str) -> bool {
        self.exists(path).unwrap().is_some()
    }

    /// Returns the names of the children of a node, sorted, `None` where there is no such node.
    ///
    /// # Errors
    ///
    /// [`Error::NoAuth`] where the node is not open to us.
    pub fn children(&self, path: &str) -> Result<Option<Vec<String>>, Error> {
        let body = Out::default().string(path).bool(false);
        let names = |mut body: In<'_>| body.vector(In::string);
        let mut found = self.find(wire::GET_CHILDREN, body, names)?;
        found.iter_mut().for_each(|names| names.sort());
        Ok(found)
    }

    /// Sets the data of a node, whatever its version.
    ///
    /// # Errors
    ///
    /// [`Error::NoNode`] where there is no such node.
    pub fn set(&self, path: &str, data: &[u8]) -> Result<Stat, Error> {
        self.set_version(path, data, ANY_VERSION)
    }

    /// Sets the data of a node that has this version.
    ///
    /// # Errors
    ///
    /// [`Error::BadVersion`] where it has another one, [`Error::NoNode`] where there is no such node.
    pub fn set_version(&self, path: &str, data: &[u8], version: i32) -> Result<Stat, Error> {
        let body = Out::default().string(path).buffer(data).int(version);
        let reply = self.call(wire::SET_DATA, body)?;
        Ok(In(&reply.body).stat()?)
    }

    /// Deletes a node, whatever its version.
    ///
    /// # Errors
    ///
    /// [`Error::NoNode`] where there is no such node, [`Error::NotEmpty`] where it has children.
    pub fn delete(&self, path: &str) -> Result<(), Error> {
        let body = Out::default().string(path).int(ANY_VERSION);
        self.call(wire::DELETE, body).map(drop)
    }

    /// Deletes a node with everything below it, and is content where there is none.
    ///
    /// # Errors
    ///
    /// [`Error::NotEmpty`] where somebody goes on creating children.
    pub fn delete_all(&self, path: &str) -> Result<(), Error> {
        for name in self.children(path)?.unwrap_or_default() {
            self.delete_all(&format!("{path}/{name}"))?;
        }
        found(self.delete(path)).map(drop)
    }

    /// Returns who may do what with a node.
    ///
    /// # Errors
    ///
    /// [`Error::NoNode`] where there is no such node.
    pub fn acl(&self, path: &str) -> Result<Vec<Acl>, Error> {
        let reply = self.call(wire::GET_ACL, Out::default().string(path))?;
        let entry = |body: &mut In<'_>| Ok((body.int()?, body.string()?, body.string()?));
        Ok(In(&reply.body).vector(entry)?)
    }

    /// Says who may do what with a node from now on.
    ///
    /// # Errors
    ///
    /// [`Error::NoNode`] where there is no such node.
    pub fn set_acl(&self, path: &str, acl: &[Acl]) -> Result<(), Error> {
        let body = Out::default().string(path).int(acl.len() as i32);
        let entry = |body: Out, (permissions, scheme, id): &Acl| {
            body.int(*permissions).string(scheme).string(id)
        };
        let body = acl.iter().fold(body, entry).int(ANY_VERSION);
        self.call(wire::SET_ACL, body).map(drop)
    }

    /// Has the server catch up with its leader, so that what is read next is not older than this call.
    ///
    /// # Errors
    ///
    /// Where the connection fails.
    pub fn sync(&self, path: &str) -> Result<(), Error> {
        self.call(wire::SYNC, Out::default().string(path)).map(drop)
    }

    /// Watches a node and everything below it from now on: creations, deletions and changes of data are in
    /// [`events`](Client::events). The node need not exist.
    ///
    /// # Errors
    ///
    /// Where the connection fails.
    pub fn watch(&self, path: &str) -> Result<(), Error> {
        let body = Out::default().string(path).int(wire::PERSISTENT_RECURSIVE);
        self.call(wire::ADD_WATCH, body).map(drop)
    }

    fn find<T>(
        &self,
        op: i32,
        body: Out,
        read: impl FnOnce(In<'_>) -> io::Result<T>,
    ) -> Result<Option<T>, Error> {
        let reply = self.call_any(op, body)?;
        let found = found(reply.checked())?;
        Ok(found.map(read).transpose()?)
    }

    pub(super) fn call(&self, op: i32, body: Out) -> Result<Reply, Error> {
        let reply = self.call_any(op, body)?;
        reply.checked()?;
        Ok(reply)
    }

    fn call_any(&self, op: i32, body: Out) -> io::Result<Reply> {
        self.connection.call(op, body, self.limit)
    }
}

fn found<T>(result: Result<T, Error>) -> Result<Option<T>, Error> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(Error::NoNode) => Ok(None),
        Err(error) => Err(error),
    }
}
