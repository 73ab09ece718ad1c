//! The first request and reply of a connection: asks for a new session, or takes up one that was granted.

use super::frames::Frames;
use super::protocol::{Record, write_bytes};
use super::transport::Transport;
use std::io::{self, ErrorKind};
use std::time::{Duration, Instant};

/// Far more than a grant takes.
const MAX_RESPONSE: usize = 1024;
const PASSWORD: usize = 16;

/// A session as the ensemble granted it.
#[derive(Clone)]
pub(super) struct SessionGrant {
    /// 0 for a session that is still to be granted.
    pub(super) id: i64,
    pub(super) timeout: Duration,
    password: Vec<u8>,
}

/// A server's answer to a client that introduced itself.
pub(super) enum ConnectResponse {
    Granted(SessionGrant),
    /// The session is not known any more, or a new one is refused.
    Expired,
}

impl SessionGrant {
    /// Returns what asks for a new session.
    pub(super) fn none(timeout: Duration) -> SessionGrant {
        SessionGrant {
            id: 0,
            timeout,
            password: vec![0; PASSWORD],
        }
    }

    /// Introduces a client that has this session, and has seen everything up to `zxid`. A server that has not seen as
    /// much ends the connection without an answer.
    pub(super) fn send(&self, transport: &Transport, zxid: i64, deadline: Instant) {
        transport.put(&self.request(zxid));
        transport.flush(deadline);
    }

    fn request(&self, zxid: i64) -> Vec<u8> {
        let (version, read_only) = (0_i32, 0);
        let mut frame = vec![0; 4];
        frame.extend(version.to_be_bytes());
        frame.extend(zxid.to_be_bytes());
        frame.extend(millis(self.timeout).to_be_bytes());
        frame.extend(self.id.to_be_bytes());
        write_bytes(&mut frame, &self.password);
        frame.push(read_only);
        let length = frame.len() as u32 - 4;
        frame[..4].copy_from_slice(&length.to_be_bytes());
        frame
    }

    /// Takes a response that fits to this request.
    pub(super) fn read(&self, response: &[u8]) -> Option<ConnectResponse> {
        let mut response = Record(response);
        let (_version, timeout, id) = (response.int()?, response.int()?, response.long()?);
        let password = response.bytes()?.to_vec();
        if timeout == 0 {
            return Some(ConnectResponse::Expired);
        }
        let ours = id != 0 && (self.id == 0 || self.id == id);
        let millis = u64::try_from(timeout).ok().filter(|_| ours)?;
        Some(ConnectResponse::Granted(SessionGrant {
            id,
            timeout: Duration::from_millis(millis),
            password,
        }))
    }
}

/// Waits for the response until a moment. `None` where there is none yet.
pub(super) fn receive(
    asked: &SessionGrant,
    transport: &Transport,
    frames: &mut Frames,
    until: Instant,
) -> io::Result<Option<ConnectResponse>> {
    loop {
        if let Some(frame) = frames.next(MAX_RESPONSE)? {
            let response = asked.read(frame);
            return response.map(Some).ok_or(ErrorKind::InvalidData.into());
        }
        if Instant::now() >= until {
            return Ok(None);
        }
        frames.fill(transport, until)?;
    }
}

fn millis(time: Duration) -> i32 {
    i32::try_from(time.as_millis()).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(timeout: i32, id: i64, length: i32, password: &[u8]) -> Vec<u8> {
        let mut response = 0_i32.to_be_bytes().to_vec();
        response.extend(timeout.to_be_bytes());
        response.extend(id.to_be_bytes());
        response.extend(length.to_be_bytes());
        response.extend(password);
        response
    }

    fn granted(asked: &SessionGrant, response: &[u8]) -> Option<i64> {
        match asked.read(response)? {
            ConnectResponse::Granted(grant) => Some(grant.id),
            ConnectResponse::Expired => Some(0),
        }
    }

    #[test]
    fn a_client_introduces_itself_with_its_session_and_what_it_has_seen() {
        let session = SessionGrant {
            id: -2,
            timeout: Duration::from_millis(1500),
            password: vec![9; 16],
        };
        let expected = [
            &[0, 0, 0, 45, 0, 0, 0, 0][..],
            &5_i64.to_be_bytes(),
            &1500_i32.to_be_bytes(),
            &(-2_i64).to_be_bytes(),
            &[0, 0, 0, 16],
            &[9; 16],
            &[0],
        ];
        assert_eq!(session.request(5), expected.concat());
    }

    #[test]
    fn a_response_is_a_grant_or_the_end_of_the_session() {
        let new = SessionGrant::none(Duration::from_secs(6));
        assert_eq!(granted(&new, &response(1500, -2, 16, &[9; 16])), Some(-2));
        assert_eq!(granted(&new, &response(0, 0, 16, &[0; 16])), Some(0));
        let own = SessionGrant { id: -2, ..new };
        assert_eq!(granted(&own, &response(1500, -2, 16, &[9; 16])), Some(-2));
        assert_eq!(granted(&own, &response(0, 0, 16, &[0; 16])), Some(0));
    }

    #[test]
    fn what_is_no_response_is_not_taken_for_one() {
        let new = SessionGrant::none(Duration::from_secs(6));
        let good = response(1500, -2, 16, &[9; 16]);
        for length in 0..good.len() {
            assert_eq!(granted(&new, &good[..length]), None, "{length}");
        }
        assert_eq!(granted(&new, &response(-1, -2, 16, &[9; 16])), None);
        assert_eq!(granted(&new, &response(1500, 0, 16, &[9; 16])), None);
        assert_eq!(granted(&new, &response(1500, 7, i32::MAX, &[9; 16])), None);
        let own = SessionGrant { id: 7, ..new };
        assert_eq!(granted(&own, &good), None, "the session of another");
    }
}
