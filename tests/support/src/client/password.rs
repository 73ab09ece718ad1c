//! The password of a session, which a server does not store but computes.

/// What the server mixes into the id: `ZooKeeperServer.superSecret`.
const SECRET: i64 = 0xB341_5C00;

/// Returns the password with which somebody else may attach to a session.
pub(super) fn of(session_id: i64) -> [u8; 16] {
    let mut random = JavaRandom::new(session_id ^ SECRET);
    let mut password = [0; 16];
    for four in password.chunks_mut(4) {
        four.copy_from_slice(&random.next_int().to_le_bytes());
    }
    password
}

/// The generator that `java.util.Random` documents.
struct JavaRandom(i64);

impl JavaRandom {
    const MULTIPLIER: i64 = 0x5_DEEC_E66D;
    const MASK: i64 = (1 << 48) - 1;

    fn new(seed: i64) -> JavaRandom {
        JavaRandom((seed ^ Self::MULTIPLIER) & Self::MASK)
    }

    fn next_int(&mut self) -> i32 {
        self.0 = self.0.wrapping_mul(Self::MULTIPLIER).wrapping_add(0xB) & Self::MASK;
        (self.0 >> 16) as i32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generator_is_that_of_java() {
        let mut random = JavaRandom::new(42);
        assert_eq!(random.next_int(), -1_170_105_035);
        assert_eq!(random.next_int(), 234_785_527);
    }
}
