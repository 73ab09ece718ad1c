//! Properties that hold for any bytes from a server, for `properties`.

use super::frames::{Frame, Frames, Limit};
use super::handshake::SessionGrant;
use super::protocol::{self, MAX_SMALL};
use super::{Reply, Request};
use std::time::Duration;

/// Bytes are split into the same frames no matter how they arrive, and no frame is longer than allowed.
pub(crate) fn frames(bytes: &[u8], piece: usize) {
    for skips in [false, true] {
        let bytes_at_most = if skips { 20 } else { MAX_SMALL };
        split(
            bytes,
            piece,
            Limit {
                bytes: bytes_at_most,
                skips,
            },
        );
    }
}

fn split(bytes: &[u8], piece: usize, limit: Limit) {
    /// A frame, and its length.
    type Found = Option<(Vec<u8>, usize)>;
    let next = |frames: &mut Frames| -> Result<Found, ()> {
        let frame = frames.next(limit).map_err(drop)?;
        Ok(frame.map(|frame| match frame {
            Frame::Whole(bytes) => (bytes.to_vec(), bytes.len()),
            Frame::Head(head, length) => (head.to_vec(), length),
        }))
    };
    let (mut whole, mut pieces) = (Frames::default(), Frames::default());
    whole.put(bytes);
    let mut more = bytes.chunks(piece.max(1));
    loop {
        let expected = next(&mut whole);
        let found = loop {
            match next(&mut pieces) {
                Ok(None) => match more.next() {
                    Some(piece) => pieces.put(piece),
                    None => break Ok(None),
                },
                found => break found,
            }
        };
        assert_eq!(expected, found);
        match found.ok().flatten() {
            Some((bytes, length)) if length <= limit.bytes => assert_eq!(bytes.len(), length),
            Some((head, _)) => assert!(limit.skips && !head.is_empty()),
            None => return,
        }
    }
}

/// Decoding a record ends, and its result holds no more bytes than the record.
pub(crate) fn records(bytes: &[u8]) {
    let _ = protocol::head(bytes);
    assert!(protocol::event(bytes).is_none_or(|path| path.len() <= bytes.len()));
    let _ = SessionGrant::none(Duration::from_secs(6)).read(bytes);
    let path = || "/a".to_owned();
    let paths = |count| Request::Read {
        paths: vec![path(); count],
    };
    for (request, nodes) in [
        (Request::Children { path: path() }, 0),
        (Request::WatchTree { path: path() }, 0),
        (Request::Access { path: path() }, 0),
        (
            Request::Exists {
                path: path(),
                watch: true,
            },
            0,
        ),
        (paths(1), 1),
        (paths(3), 3),
    ] {
        match request.answer(0, bytes) {
            Some(Ok(Reply::Names(Some(names)))) => {
                let length: usize = names.iter().map(|name| name.len() + 4).sum();
                assert!(length <= bytes.len());
            }
            Some(Ok(Reply::Nodes(read))) => {
                assert_eq!(read.len(), nodes);
                let data = read.iter().flatten().flatten().map(|(data, _)| data.len());
                assert!(data.sum::<usize>() <= bytes.len());
            }
            _ => {}
        }
    }
}
