//! Values of the right shape with absurd numbers and texts in them: what a decoder lets through.

use proptest::prelude::*;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::spoil::{odd_number, odd_text};

/// What is put in the place of some leaf.
#[derive(Debug, Clone)]
pub struct Odd(usize, Value);

/// One absurd leaf.
pub fn odd() -> impl Strategy<Value = Odd> {
    let leaf = prop_oneof![
        3 => odd_number().prop_map(Value::from),
        3 => odd_text().prop_map(Value::from),
        1 => any::<i64>().prop_map(Value::from),
        1 => any::<bool>().prop_map(Value::from),
        1 => Just(Value::Null),
    ];
    (any::<usize>(), leaf).prop_map(|(at, leaf)| Odd(at, leaf))
}

/// A few of them.
pub fn odds() -> impl Strategy<Value = Vec<Odd>> {
    prop::collection::vec(odd(), 1..4)
}

/// `value` with some leaves replaced, where that is still a value of its type.
pub fn changed<T: Serialize + DeserializeOwned>(value: &T, odds: &[Odd]) -> Option<T> {
    let mut value = serde_json::to_value(value).unwrap();
    for Odd(at, leaf) in odds {
        let mut count = 0;
        each_leaf(&mut value, &mut |_| count += 1);
        let (mut number, wanted) = (0, at % count.max(1));
        each_leaf(&mut value, &mut |place| {
            // A leaf keeps its kind: most others are refused by the decoder, which other tests try.
            if number == wanted && std::mem::discriminant(place) == std::mem::discriminant(leaf) {
                place.clone_from(leaf);
            }
            number += 1;
        });
    }
    serde_json::from_value(value).ok()
}

fn each_leaf(value: &mut Value, see: &mut impl FnMut(&mut Value)) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| each_leaf(item, see)),
        Value::Object(fields) => fields.values_mut().for_each(|field| each_leaf(field, see)),
        leaf => see(leaf),
    }
}
