//! A filter as it came: read only where its name is known, so that a value that is none is refused with the field it stands in.

use std::{borrow::Cow, marker::PhantomData};

use poem_openapi::{
    registry::{MetaSchema, MetaSchemaRef, Registry},
    types::{ParseFromJSON, ParseResult, ToJSON, Type},
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

use super::bad;
use crate::error::ApiError;

/// Values of one filter.
pub(super) const MAX_VALUES: usize = 1000;

/// A filter as it came, described as a `T`.
#[derive(Debug)]
pub(super) struct Given<T>(Value, PhantomData<fn() -> T>);

impl<T> Default for Given<T> {
    fn default() -> Self {
        Self(Value::Null, PhantomData)
    }
}

impl<'de, T> Deserialize<'de> for Given<T> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Value::deserialize(deserializer).map(|value| Self(value, PhantomData))
    }
}

impl<T: Type> Type for Given<T> {
    const IS_REQUIRED: bool = false;

    type RawValueType = Self;
    type RawElementValueType = Self;

    fn name() -> Cow<'static, str> {
        format!("optional_{}", T::name()).into()
    }

    fn schema_ref() -> MetaSchemaRef {
        T::schema_ref().merge(MetaSchema { nullable: true, ..MetaSchema::ANY })
    }

    fn register(registry: &mut Registry) {
        T::register(registry);
    }

    fn as_raw_value(&self) -> Option<&Self> {
        Some(self)
    }

    fn raw_element_iter<'a>(&'a self) -> Box<dyn Iterator<Item = &'a Self> + 'a> {
        Box::new(std::iter::once(self))
    }
}

impl<T: Type> ParseFromJSON for Given<T> {
    fn parse_from_json(value: Option<Value>) -> ParseResult<Self> {
        Ok(Self(value.unwrap_or_default(), PhantomData))
    }
}

impl<T: Type> ToJSON for Given<T> {
    fn to_json(&self) -> Option<Value> {
        Some(self.0.clone())
    }
}

/// The description of one value or a list of them.
#[derive(Debug)]
pub(super) struct OneOrMore<T>(PhantomData<fn() -> T>);

impl<T: Type> Type for OneOrMore<T> {
    const IS_REQUIRED: bool = true;

    type RawValueType = Self;
    type RawElementValueType = Self;

    fn name() -> Cow<'static, str> {
        format!("one_or_more_{}", T::name()).into()
    }

    fn schema_ref() -> MetaSchemaRef {
        let any_of = vec![T::schema_ref(), Vec::<T>::schema_ref()];
        MetaSchemaRef::Inline(Box::new(MetaSchema { any_of, ..MetaSchema::ANY }))
    }

    fn register(registry: &mut Registry) {
        T::register(registry);
    }

    fn as_raw_value(&self) -> Option<&Self> {
        Some(self)
    }

    fn raw_element_iter<'a>(&'a self) -> Box<dyn Iterator<Item = &'a Self> + 'a> {
        Box::new(std::iter::once(self))
    }
}

impl<T> Given<T> {
    /// The texts of one filter, with the name by which it is refused.
    pub(super) fn texts(self, field: &str) -> Result<Vec<String>, ApiError> {
        let text = |value| match value {
            Value::String(text) if text.trim().is_empty() => {
                Err(bad(field, "a value is empty; leave the filter out to let everything through"))
            }
            Value::String(text) => Ok(text),
            _ => Err(bad(field, "a filter is a text, or a list of texts of which any will do")),
        };
        match self.0 {
            Value::Null => Ok(vec![]),
            Value::Array(items) if items.len() > MAX_VALUES => {
                Err(bad(field, format!("a filter has at most {MAX_VALUES} values")))
            }
            Value::Array(items) => items.into_iter().map(text).collect(),
            one => Ok(vec![text(one)?]),
        }
    }
}

impl<T: DeserializeOwned> Given<T> {
    /// The filter, where it has fields of its own.
    pub(super) fn object(self, name: &str, example: &str) -> Result<Option<T>, ApiError> {
        let field = format!("filters.{name}");
        match self.0 {
            Value::Null => Ok(None),
            object @ Value::Object(_) => serde_json::from_value(object)
                .map(Some)
                .map_err(|error| bad(&field, format!("{name} has another shape than expected: {error}"))),
            _ => Err(bad(&field, format!("{name} is an object: {example}"))),
        }
    }
}
