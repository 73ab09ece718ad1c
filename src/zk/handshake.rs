//! The first request and reply of a connection, which ask for a new session, or continue one.

use super::Failure;
use super::protocol::{Outgoing, Record};
use std::time::Duration;

/// A session that the ensemble has granted, or is to grant.
pub(super) struct SessionGrant {
    /// 0 for a session that is not granted yet.
    pub(super) id: i64,
    pub(super) timeout: Duration,
    password: Vec<u8>,
}

impl SessionGrant {
    /// Returns the request for a new session.
    pub(super) fn none(timeout: Duration) -> SessionGrant {
        SessionGrant {
            id: 0,
            timeout,
            password: vec![0; 16],
        }
    }

    /// Returns whether the session has expired.
    pub(super) fn is_over(&self) -> bool {
        self.timeout.is_zero()
    }

    /// Returns the request of a client that has this session, and has seen everything up to `zxid`. A server that has not
    /// seen as much ends the connection without an answer.
    pub(super) fn request(&self, zxid: i64) -> Vec<u8> {
        let millis = i32::try_from(self.timeout.as_millis()).unwrap_or(i32::MAX);
        let (version, read_only) = (0, false);
        let request = Outgoing::empty().long(zxid).int(millis).long(self.id);
        let request = request.bytes(&self.password).flag(read_only);
        // The version has the place of the xid in later requests.
        request.with_xid(version)
    }

    /// Returns the session that the response to this request grants.
    pub(super) fn answer(&self, response: &[u8]) -> Result<SessionGrant, Failure> {
        let grant = self.read(response).ok_or_else(Failure::garbled)?;
        if grant.is_over() && self.id == 0 {
            return Err(Failure::Lost("refused a new session".into()));
        }
        Ok(grant)
    }

    /// Decodes a response to this request.
    pub(super) fn read(&self, response: &[u8]) -> Option<SessionGrant> {
        let mut response = Record(response);
        let (_version, millis, id) = (response.int()?, response.int()?, response.long()?);
        let grant = SessionGrant {
            id,
            timeout: Duration::from_millis(u64::try_from(millis).ok()?),
            password: response.bytes()?.to_vec(),
        };
        let is_ours = id != 0 && (self.id == 0 || self.id == id);
        (is_ours || grant.is_over()).then_some(grant)
    }
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
        let grant = asked.read(response)?;
        Some(if grant.is_over() { 0 } else { grant.id })
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
