//! Requests and answers as bytes, made of the descriptors.

use futures::StreamExt as _;
use proptest::prelude::*;
use prost::Message as _;
use prost_types::{DescriptorProto, FileDescriptorSet, field_descriptor_proto::Type};
use quorate::proto::DESCRIPTORS;
use tonic::{
    Request, Status,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    codegen::http::uri::PathAndQuery,
    transport::Channel,
};

use crate::spoil::{odd_number, odd_text};

/// Bytes as they are.
#[derive(Default)]
pub struct Raw;

impl Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Raw;
    type Decoder = Raw;
    fn encoder(&mut self) -> Raw {
        Raw
    }
    fn decoder(&mut self) -> Raw {
        Raw
    }
}

impl Encoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;
    fn encode(&mut self, item: Vec<u8>, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        bytes::BufMut::put_slice(buffer, &item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;
    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        let length = bytes::Buf::remaining(buffer);
        Ok(Some(bytes::Buf::copy_to_bytes(buffer, length).to_vec()))
    }
}

/// A call of `quorate.v1`.
#[derive(Debug, Clone)]
pub struct Call {
    pub path: String,
    pub input: String,
}

pub fn descriptors() -> FileDescriptorSet {
    FileDescriptorSet::decode(DESCRIPTORS).unwrap()
}

pub fn calls(set: &FileDescriptorSet) -> Vec<Call> {
    let files = set.file.iter().filter(|file| file.package() == "quorate.v1");
    let services = files.flat_map(|file| &file.service);
    let calls = services.flat_map(|service| {
        service.method.iter().map(|method| Call {
            path: format!("/quorate.v1.{}/{}", service.name(), method.name()),
            input: method.input_type().to_owned(),
        })
    });
    calls.collect()
}

fn message<'a>(set: &'a FileDescriptorSet, name: &str) -> Option<&'a DescriptorProto> {
    fn within<'a>(all: &'a [DescriptorProto], path: &[&str]) -> Option<&'a DescriptorProto> {
        let (first, rest) = path.split_first()?;
        let found = all.iter().find(|message| message.name() == *first)?;
        if rest.is_empty() { Some(found) } else { within(&found.nested_type, rest) }
    }
    set.file.iter().find_map(|file| {
        let inside = name.strip_prefix(&format!(".{}.", file.package()))?;
        within(&file.message_type, &inside.split('.').collect::<Vec<_>>())
    })
}

/// Decisions, drawn before the request is made of them.
#[derive(Debug, Clone)]
pub struct Draws(Vec<(u8, u64, String)>, usize);

impl Draws {
    fn next(&mut self) -> (u8, u64, String) {
        self.1 += 1;
        self.0[self.1 % self.0.len()].clone()
    }
}

pub fn draws() -> impl Strategy<Value = Draws> {
    let name = prop::sample::select(vec![
        "orders",
        "c1",
        "db1:3306",
        "db2:3306",
        "db9:3306",
        "server-1",
        "server-2",
        "must_not",
        "lag_s",
        "5",
        "{}",
        "anna",
        "primary_probe_interval_ms",
        "18446744073709551615",
        "datacenters",
        "published",
    ]);
    let text = prop_oneof![2 => odd_text(), 3 => name.prop_map(str::to_owned)];
    prop::collection::vec((any::<u8>(), odd_number(), text), 8..40).prop_map(|draws| Draws(draws, 0))
}

fn varint(bytes: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        bytes.push(n as u8 | 0x80);
        n >>= 7;
    }
    bytes.push(n as u8);
}

fn field(bytes: &mut Vec<u8>, number: i32, content: &[u8]) {
    varint(bytes, (number as u64) << 3 | 2);
    varint(bytes, content.len() as u64);
    bytes.extend_from_slice(content);
}

/// A request of that type, its fields as the draws say.
pub fn request(set: &FileDescriptorSet, name: &str, draws: &mut Draws, depth: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    let Some(descriptor) = message(set, name) else { return bytes };
    for wanted in &descriptor.field {
        let (kind, _, _) = draws.next();
        let many = wanted.label() == prost_types::field_descriptor_proto::Label::Repeated;
        let times = match kind {
            0..=60 => 0,
            250.. if many => 300,
            200.. if many => 3,
            _ => 1,
        };
        for _ in 0..times {
            let (_, number, text) = draws.next();
            match wanted.r#type() {
                Type::String | Type::Bytes => field(&mut bytes, wanted.number(), text.as_bytes()),
                Type::Message if depth < 4 => {
                    let inner = request(set, wanted.type_name(), draws, depth + 1);
                    field(&mut bytes, wanted.number(), &inner);
                }
                Type::Message => {}
                _ => {
                    varint(&mut bytes, (wanted.number() as u64) << 3);
                    varint(&mut bytes, number);
                }
            }
        }
    }
    bytes
}

/// The end of a call: the first message, or the status. Streams are not awaited further.
pub async fn call(channel: Channel, path: &str, body: Vec<u8>) -> Result<(), Status> {
    let mut grpc = Grpc::new(channel);
    grpc.ready().await.map_err(|error| Status::unknown(error.to_string()))?;
    let path: PathAndQuery = path.parse().unwrap();
    let mut request = Request::new(body);
    request.metadata_mut().insert("grpc-timeout", "300m".parse().unwrap());
    let mut answers = grpc.server_streaming(request, path, Raw).await?.into_inner();
    answers.next().await.transpose().map(drop)
}
