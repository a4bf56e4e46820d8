//! Packets of the MySQL protocol.

/// PROTOCOL_41, SECURE_CONNECTION, PLUGIN_AUTH, multi-statements and -results, DEPRECATE_EOF and what they rest on.
const CAPABILITIES: u32 =
    0x01 | 0x200 | 0x2000 | 0x8000 | 0x1_0000 | 0x2_0000 | 0x4_0000 | 0x8_0000 | 0x100_0000;

pub fn header(length: usize, sequence: u8) -> Vec<u8> {
    let mut header = (length as u32).to_le_bytes()[..3].to_vec();
    header.push(sequence);
    header
}

/// Bytes of one packet as it goes over the wire.
pub fn greeting(version: &str) -> Vec<u8> {
    let mut payload = vec![10];
    payload.extend_from_slice(version.as_bytes());
    payload.push(0);
    payload.extend_from_slice(&7_u32.to_le_bytes());
    payload.extend_from_slice(b"01234567\0");
    payload.extend_from_slice(&(CAPABILITIES as u16).to_le_bytes());
    payload.push(33);
    payload.extend_from_slice(&2_u16.to_le_bytes());
    payload.extend_from_slice(&((CAPABILITIES >> 16) as u16).to_le_bytes());
    payload.push(21);
    payload.extend_from_slice(&[0; 10]);
    payload.extend_from_slice(b"89abcdefghij\0mysql_native_password\0");
    payload
}

/// An OK packet.
pub fn ok(more: u16) -> Vec<u8> {
    let mut payload = vec![0, 0, 0];
    payload.extend_from_slice(&(2 | more).to_le_bytes());
    payload.extend_from_slice(&[0, 0]);
    payload
}

/// An error packet.
pub fn error(code: u16, state: &str, text: &[u8]) -> Vec<u8> {
    let mut payload = vec![0xff];
    payload.extend_from_slice(&code.to_le_bytes());
    payload.extend_from_slice(format!("#{state}").as_bytes());
    payload.extend_from_slice(text);
    payload
}

pub fn end(more: u16) -> Vec<u8> {
    let mut payload = ok(more);
    payload[0] = 0xfe;
    payload
}

pub fn number(bytes: &mut Vec<u8>, n: u64) {
    match n {
        0..=250 => bytes.push(n as u8),
        251..=0xffff => {
            bytes.push(0xfc);
            bytes.extend_from_slice(&(n as u16).to_le_bytes());
        }
        0x1_0000..=0xff_ffff => {
            bytes.push(0xfd);
            bytes.extend_from_slice(&(n as u32).to_le_bytes()[..3]);
        }
        _ => {
            bytes.push(0xfe);
            bytes.extend_from_slice(&n.to_le_bytes());
        }
    }
}

pub fn text(bytes: &mut Vec<u8>, text: &[u8]) {
    number(bytes, text.len() as u64);
    bytes.extend_from_slice(text);
}

pub fn column(name: &str) -> Vec<u8> {
    let mut payload = Vec::new();
    for part in ["def", "", "", "", name, name] {
        text(&mut payload, part.as_bytes());
    }
    payload.extend_from_slice(&[0x0c, 33, 0, 0, 4, 0, 0, 0xfd, 0, 0, 0, 0, 0]);
    payload
}

/// A row of texts.
pub fn row(values: &[Option<Vec<u8>>]) -> Vec<u8> {
    let mut payload = Vec::new();
    for value in values {
        match value {
            Some(value) => text(&mut payload, value),
            None => payload.push(0xfb),
        }
    }
    payload
}
