//! What a server may send to the driver, looked at on its way there: how much in one answer, and in plain text what
//! each packet begins with. The driver believes what it is told, and some of it would end the process or keep its
//! thread busy for minutes (mysql_async 0.37, mysql_common 0.37). Through TLS only the amount can be seen.

/// Most bytes of one answer: two GTID sets of the largest packet.
pub(super) const ANSWER_BYTES_MAX: u64 = 32 << 20;
/// Most columns of a result set (MySQL 8.4 manual, 10.4.7). The driver reserves room for as many as are announced; what
/// the system has no room for ends the process.
const COLUMNS_MAX: u64 = 4_096;
/// `parsec`: the client is told to hash its password 1024 << this times. 2^18 take some 0.2 s; the driver goes up to 2^30.
const PARSEC_FACTOR_MAX: u8 = 8;
/// Most packets of the server in one of its turns of the login: `caching_sha2_password` says first that it is content.
const TURNS: u8 = 2;
/// Payload of a packet that is continued in the next.
const FULL: usize = 0xff_ffff;
/// What is looked at of a packet: header, and as much of the payload as a count, or parsec's salt with its marks, takes.
const SEEN_MAX: usize = 4 + 9;

/// The server's side of one connection, from its first byte on.
#[derive(Debug, Default)]
pub(super) struct Guard {
    /// The connection is plain text.
    plain: bool,
    /// Bytes since the driver last said something.
    answered: u64,
    /// First bytes of the packet under way.
    seen: Vec<u8>,
    /// Bytes of it that are still to come.
    left: usize,
    /// The packet before it is continued in this one.
    continued: bool,
    /// During the login: packets that may come before the driver speaks again.
    turns: u8,
}

impl Guard {
    /// Of a connection that was just accepted.
    pub(super) fn new(plain: bool) -> Self {
        Self { plain, turns: TURNS, ..Self::default() }
    }

    /// The driver has spoken: what comes now is the next answer.
    pub(super) fn asked(&mut self) {
        (self.answered, self.turns) = (0, TURNS);
    }

    /// Whether these bytes may go to the driver; otherwise why not. `logged_in`: they answer statements.
    pub(super) fn pass(&mut self, bytes: &[u8], logged_in: bool) -> Result<(), String> {
        self.answered = self.answered.saturating_add(bytes.len() as u64);
        if self.answered > ANSWER_BYTES_MAX {
            return Err(format!("an answer longer than {} MiB", ANSWER_BYTES_MAX >> 20));
        }
        if self.plain { self.packets(bytes, logged_in) } else { Ok(()) }
    }

    fn packets(&mut self, mut bytes: &[u8], logged_in: bool) -> Result<(), String> {
        while !bytes.is_empty() {
            if self.left == 0 && self.seen.len() < 4 {
                self.see(&mut bytes, 4);
                let [a, b, c, _] = self.seen[..] else { return Ok(()) };
                self.left = usize::from(a) | usize::from(b) << 8 | usize::from(c) << 16;
                if self.left == 0 && !self.continued {
                    return Err("an empty packet".to_owned());
                }
                self.continued = self.left == FULL;
            }
            let before = self.seen.len();
            self.see(&mut bytes, (before + self.left).min(SEEN_MAX));
            self.left -= self.seen.len() - before;
            if before < SEEN_MAX && (self.seen.len() == SEEN_MAX || self.left == 0) {
                if !logged_in {
                    self.turn()?;
                }
                check(&self.seen, logged_in)?;
            }
            if self.seen.len() == SEEN_MAX {
                let skipped = self.left.min(bytes.len());
                bytes = &bytes[skipped..];
                self.left -= skipped;
            }
            if self.left == 0 {
                self.seen.clear();
            }
        }
        Ok(())
    }

    /// Logging in, the sides take turns. What came too early would lie there as the answer to the first statement, and
    /// nobody has looked at it as one.
    fn turn(&mut self) -> Result<(), String> {
        self.turns = match (self.turns, self.seen.get(4..)) {
            // An error may come at any time, and ends the connection.
            (turns, Some([0xff, ..])) => turns,
            (0, _) => return Err("more than was asked for during the login".to_owned()),
            // `caching_sha2_password` knows the password: OK follows.
            (turns, Some([0x01, 0x03])) => turns - 1,
            _ => 0,
        };
        Ok(())
    }

    fn see(&mut self, bytes: &mut &[u8], upto: usize) {
        let (taken, rest) = bytes.split_at(bytes.len().min(upto.saturating_sub(self.seen.len())));
        self.seen.extend_from_slice(taken);
        *bytes = rest;
    }
}

/// Looks at the beginning of a packet, header and all.
fn check(seen: &[u8], logged_in: bool) -> Result<(), String> {
    let (header, payload) = seen.split_at(seen.len().min(4));
    match (logged_in, payload) {
        // A number of eight bytes. The end of a result set begins with the same byte and is shorter.
        (true, [0xfe, number @ ..]) if number.len() == 8 => {
            let columns = number.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
            match columns > COLUMNS_MAX {
                true => Err(format!("a result set of {columns} columns")),
                false => Ok(()),
            }
        }
        (false, [0x01, b'P', factor, ..]) if header[..3] == [21, 0, 0] => parsec(*factor),
        (false, [b'P', factor, ..]) if header[..3] == [20, 0, 0] => parsec(*factor),
        _ => Ok(()),
    }
}

fn parsec(factor: u8) -> Result<(), String> {
    match factor > PARSEC_FACTOR_MAX {
        true => Err(format!(
            "a login by `parsec` with 1024 << {factor} rounds; at most 1024 << {PARSEC_FACTOR_MAX} are made"
        )),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(payload: &[u8]) -> Vec<u8> {
        let mut bytes = (payload.len() as u32).to_le_bytes()[..3].to_vec();
        bytes.push(1);
        bytes.extend_from_slice(payload);
        bytes
    }

    /// The same, however the bytes are cut.
    fn told(bytes: &[u8], logged_in: bool) -> Result<(), String> {
        let whole = |step: usize| {
            let mut guard = Guard::new(true);
            bytes.chunks(step).try_for_each(|chunk| guard.pass(chunk, logged_in))
        };
        let first = whole(1);
        for step in 2..=bytes.len().min(40) {
            assert_eq!(whole(step), first, "in pieces of {step}");
        }
        first
    }

    fn columns(count: u64) -> Vec<u8> {
        let mut payload = vec![0xfe];
        payload.extend_from_slice(&count.to_le_bytes());
        packet(&payload)
    }

    #[test]
    fn what_would_end_the_driver_is_not_passed_on() {
        let row = packet(b"\x03abc");
        for count in [4_097, 1 << 32, 1 << 58, u64::MAX] {
            let bytes = [row.clone(), columns(count)].concat();
            assert_eq!(told(&bytes, true), Err(format!("a result set of {count} columns")));
            assert_eq!(told(&columns(count), false), Ok(()), "a login may be switched to another method");
        }
        assert!(told(&[&row[..], &[0, 0, 0, 2]].concat(), true).unwrap_err().contains("empty"));
        let mut salt = vec![b'P', 9];
        salt.extend_from_slice(&[7; 18]);
        assert!(told(&packet(&salt), false).unwrap_err().contains("parsec"));
        assert!(told(&packet(&[&[1], &salt[..]].concat()), false).unwrap_err().contains("parsec"));
        salt[1] = 3;
        assert_eq!(told(&packet(&salt), false), Ok(()));
    }

    /// What comes with the end of the login would be taken for the answer to the first statement.
    #[test]
    fn an_answer_before_the_question_is_not_passed_on() {
        let (greeting, ok, content) =
            (packet(b"\x0a9.7.4\0abcdefgh"), packet(b"\0\0\0\x02\0\0\0"), packet(&[1, 3]));
        let denied = packet(b"\xff\x15\x04#28000x");
        for early in [columns(1 << 40), ok.clone(), packet(b"caching_sha2_password")] {
            for end in [vec![&ok], vec![&content, &ok], vec![&content, &content], vec![&greeting]] {
                let bytes = end.into_iter().chain([&early]).flatten().copied().collect::<Vec<_>>();
                assert!(told(&bytes, false).unwrap_err().contains("during the login"));
            }
        }
        for end in [[&ok, &denied].as_slice(), &[&content, &ok, &denied], &[&denied]] {
            let bytes = end.iter().flat_map(|packet| packet.iter().copied()).collect::<Vec<_>>();
            assert_eq!(told(&bytes, false), Ok(()));
        }
        let mut guard = Guard::new(true);
        for turn in [&greeting, &columns(9), &ok] {
            assert_eq!(guard.pass(turn, false), Ok(()));
            guard.asked();
        }
    }

    #[test]
    fn ordinary_answers_pass() {
        let mut bytes = Vec::new();
        for payload in [
            &[0x02][..],
            b"\x03def\0\0",
            b"\x01a\x01b",
            b"\xfe\0\0\x02\0\0\0",
            b"\0\0\0\x02\0\0\0",
            b"\xff\x10\x04#08004x",
        ] {
            bytes.extend_from_slice(&packet(payload));
        }
        bytes.extend_from_slice(&columns(4_096));
        assert_eq!(told(&bytes, true), Ok(()));
        let mut guard = Guard::new(true);
        let full = [&[0xff, 0xff, 0xff, 1][..], &vec![b'x'; FULL], &[0, 0, 0, 2], &row_after()].concat();
        assert_eq!(guard.pass(&full, true), Ok(()), "an empty packet ends one that is full");
    }

    fn row_after() -> Vec<u8> {
        packet(b"\x01a")
    }

    #[test]
    fn an_answer_has_an_end() {
        let mut guard = Guard::new(false);
        let much = vec![0; ANSWER_BYTES_MAX as usize];
        assert_eq!(guard.pass(&much, true), Ok(()));
        assert!(guard.pass(&[0], true).unwrap_err().contains("32 MiB"));
        guard.asked();
        assert_eq!(guard.pass(&much, true), Ok(()));
    }
}
