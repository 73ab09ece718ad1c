//! Collects the bytes of a connection into frames: a length, and that many bytes.

use super::Failure;
use super::transport::{CHUNK, Transport, is_timeout};
use std::io;
use std::time::Instant;

const LENGTH: usize = 4;

/// The bytes that were received and not taken yet.
#[derive(Default)]
pub(super) struct Frames {
    buffer: Vec<u8>,
    taken: usize,
    /// When the first byte of an incomplete frame was there.
    pub(super) begun: Option<Instant>,
}

impl Frames {
    /// Waits for more bytes until a moment, which passing is no error. They never make the buffer larger than the frame
    /// that was announced, a chunk, and what growing wastes: nothing is allocated for a length alone.
    pub(super) fn fill(&mut self, transport: &Transport, until: Instant) -> io::Result<()> {
        self.buffer.drain(..self.taken);
        self.taken = 0;
        if self.buffer.is_empty() {
            self.buffer.shrink_to(CHUNK);
        }
        let timeout = until.saturating_duration_since(Instant::now());
        match transport.receive(&mut self.buffer, timeout) {
            Err(error) if is_timeout(&error) => Ok(()),
            received => received,
        }
    }

    #[cfg(any(test, fuzzing))]
    pub(super) fn put(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Takes the next whole frame, without its length. One that is longer than `limit` is an error.
    pub(super) fn next(&mut self, limit: usize) -> Result<Option<&[u8]>, Failure> {
        let rest = &self.buffer[self.taken..];
        let Some(frame) = first(rest, limit)? else {
            let has_begun = !rest.is_empty();
            self.begun = has_begun.then(|| self.begun.unwrap_or_else(Instant::now));
            return Ok(None);
        };
        self.begun = None;
        self.taken += LENGTH + frame.len();
        Ok(Some(frame))
    }
}

/// Returns the first frame of these bytes, if it is complete.
fn first(bytes: &[u8], limit: usize) -> Result<Option<&[u8]>, Failure> {
    let Some((length, rest)) = bytes.split_first_chunk::<LENGTH>() else {
        return Ok(None);
    };
    let length = usize::try_from(i32::from_be_bytes(*length)).unwrap_or(0);
    if !(1..=limit).contains(&length) {
        return Err(Failure::garbled());
    }
    Ok(rest.get(..length))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};
    use std::thread;
    use std::time::Duration;

    const LIMIT: usize = 8 << 20;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(20)
    }

    fn connected() -> (TcpStream, Transport) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (
            listener.accept().unwrap().0,
            Transport::new(client).unwrap(),
        )
    }

    fn frame(body: &[u8]) -> Vec<u8> {
        [&(body.len() as u32).to_be_bytes(), body].concat()
    }

    /// Waits for the next frame.
    fn next(frames: &mut Frames, transport: &Transport) -> Result<Vec<u8>, Failure> {
        loop {
            if let Some(frame) = frames.next(LIMIT)? {
                return Ok(frame.to_vec());
            }
            frames.fill(transport, soon())?;
        }
    }

    #[test]
    fn frames_are_found_however_the_bytes_arrive() {
        let stream: Vec<u8> = (1..=50).flat_map(|n| frame(&vec![n; n as usize])).collect();
        for size in [1, 3, 19, 64, 100_000] {
            let ((mut server, transport), mut frames) = (connected(), Frames::default());
            let stream = stream.clone();
            let sending = thread::spawn(move || {
                for piece in stream.chunks(size) {
                    server.write_all(piece).unwrap();
                }
            });
            for n in 1..=50 {
                let found = next(&mut frames, &transport).unwrap();
                assert_eq!(found, vec![n; n as usize], "{size}");
            }
            assert_eq!(frames.begun, None);
            sending.join().unwrap();
            assert!(
                next(&mut frames, &transport).is_err(),
                "the end of the stream"
            );
        }
    }

    #[test]
    fn a_large_frame_is_read_whole_and_its_room_given_back() {
        let ((mut server, transport), mut frames) = (connected(), Frames::default());
        let sending = thread::spawn(move || {
            server.write_all(&frame(&vec![1; 6 << 20])).unwrap();
            server.write_all(&frame(&[2])).unwrap();
            server
        });
        assert_eq!(next(&mut frames, &transport).unwrap().len(), 6 << 20);
        assert_eq!(next(&mut frames, &transport).unwrap(), [2]);
        let mut server = sending.join().unwrap();
        server.write_all(&frame(&[3])).unwrap();
        assert_eq!(next(&mut frames, &transport).unwrap(), [3]);
        assert!(frames.buffer.capacity() <= 2 * CHUNK);
    }

    #[test]
    fn a_length_alone_takes_no_memory_and_one_that_is_wrong_is_an_error() {
        for (length, wrong) in [
            (LIMIT as i32, false),
            (-1, true),
            (0, true),
            (i32::MAX, true),
        ] {
            let ((mut server, transport), mut frames) = (connected(), Frames::default());
            server.write_all(&length.to_be_bytes()).unwrap();
            frames.fill(&transport, soon()).unwrap();
            assert_eq!(frames.next(LIMIT).is_err(), wrong, "{length}");
            assert!(frames.buffer.capacity() <= 2 * CHUNK);
            assert_eq!(frames.begun.is_some(), !wrong);
        }
    }
}
