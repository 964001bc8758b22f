//! Random shapes, with JSON that fits them made together with the value it must become.

use std::collections::{BTreeMap, BTreeSet};

use cedar_policy::{Context, EntityUid, Schema};
use proptest::prelude::*;

use super::mapping::map;
use super::*;
use crate::evaluate::context::value_for_cedar;
use crate::evaluate::names::Names;
use crate::manifest::text;
use crate::value::{Decimal, Value};

fn arbitrary_shape() -> impl Strategy<Value = Shape> {
    let leaf = prop_oneof![
        Just(Shape::Bool),
        (0_u32..=18).prop_map(|scale| Shape::Long { scale }),
        Just(Shape::Decimal),
        Just(Shape::String),
        Just(Shape::JsonText),
    ];
    let shape = leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            inner.clone().prop_map(|shape| Shape::Set(Box::new(shape))),
            record_of(inner)
        ]
    });
    record_of(shape)
}

fn record_of(shape: impl Strategy<Value = Shape>) -> impl Strategy<Value = Shape> {
    let name = prop_oneof!["[a-z]{1,3}", "[a-z.-]{1,3}", any::<String>()];
    let attribute =
        (shape, any::<bool>()).prop_map(|(shape, required)| Attribute { shape, required });
    proptest::collection::btree_map(name, attribute, 0..4).prop_map(Shape::Record)
}

/// JSON text that fits the shape, and the value it stands for.
fn fitting(shape: &Shape) -> BoxedStrategy<(String, Value)> {
    match shape {
        Shape::Bool => any::<bool>()
            .prop_map(|b| (b.to_string(), Value::Bool(b)))
            .boxed(),
        Shape::Long { scale } => {
            let exponent = format!("e-{scale}");
            any::<i64>()
                .prop_map(move |n| (format!("{n}{exponent}"), Value::Long(n)))
                .boxed()
        }
        Shape::Decimal => any::<i64>()
            .prop_map(|n| (Decimal(n).to_string(), Value::Decimal(Decimal(n))))
            .boxed(),
        Shape::String => any::<String>()
            .prop_map(|s| (quoted(&s), Value::String(s)))
            .boxed(),
        Shape::JsonText => any::<String>()
            .prop_map(|s| {
                (
                    format!("[ {} ]", quoted(&s)),
                    Value::String(format!("[{}]", quoted(&s))),
                )
            })
            .boxed(),
        Shape::Set(element) => proptest::collection::vec(fitting(element), 0..4)
            .prop_map(|elements| {
                let (texts, values): (Vec<_>, BTreeSet<_>) = elements.into_iter().unzip();
                (format!("[{}]", texts.join(",")), Value::Set(values))
            })
            .boxed(),
        Shape::Record(attributes) => {
            let members: Vec<_> = attributes
                .iter()
                .map(|(name, attribute)| {
                    let value = fitting(&attribute.shape);
                    let member = if attribute.required {
                        value.prop_map(Some).boxed()
                    } else {
                        proptest::option::of(value).boxed()
                    };
                    (Just(name.clone()), member)
                })
                .collect();
            members
                .prop_map(|members| {
                    let mut texts = Vec::new();
                    let mut record = BTreeMap::new();
                    for (name, member) in members {
                        match member {
                            Some((text, value)) => {
                                texts.push(format!("{}:{text}", quoted(&name)));
                                record.insert(name, value);
                            }
                            None => texts.push(format!("{}:null", quoted(&name))),
                        }
                    }
                    (format!("{{{}}}", texts.join(",")), Value::Record(record))
                })
                .boxed()
        }
    }
}

fn quoted(text: &str) -> String {
    serde_json::to_string(text).unwrap()
}

fn schema_text(shape: &Shape) -> String {
    let action = ActionSchema {
        input: shape.clone(),
        output: Some(shape.clone()),
    };
    text::schema(&BTreeMap::from([("s/a".to_owned(), action)]))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn schema_text_gives_back_the_shape_it_was_made_from(shape in arbitrary_shape()) {
        let shapes = shapes(&schema_text(&shape));
        let action = shapes.get("s/a").unwrap();
        prop_assert_eq!(&action.input, &shape);
        prop_assert_eq!(action.output.as_ref(), Some(&shape));
    }

    #[test]
    fn what_fits_becomes_its_value_and_cedar_agrees_on_its_type(
        (shape, (json, value)) in arbitrary_shape().prop_flat_map(|shape| { let fitting = fitting(&shape); (Just(shape), fitting) })
    ) {
        let mapped = map(&shape, &json);
        prop_assert_eq!(mapped.as_ref(), Ok(&value));

        // Cedar checks the expression against an action whose whole context is the shape.
        let text = schema_text(&shape).replace("\"input\": {", "\"unused\": {");
        let (schema, _warnings) = Schema::from_cedarschema_str(&with(&format!(
            "action b appliesTo {{ principal: Agent, resource: Resource, context: {{ input: {} }} }};",
            record_text(&text)
        ))).unwrap();
        let input = value_for_cedar(&Names::new().unwrap(), &value).unwrap();
        let context = Context::from(cedar_policy_core::ast::Context::Value([("input".into(), input)].into_iter().collect::<BTreeMap<_, _>>().into()));
        let action: EntityUid = r#"Countersign::Action::"b""#.parse().unwrap();
        prop_assert!(context.validate(&schema, &action).is_ok());
    }

    #[test]
    fn what_fits_one_shape_fits_another_only_as_what_that_says(
        shape in arbitrary_shape(),
        (json, value) in arbitrary_shape().prop_flat_map(|shape| fitting(&shape))
    ) {
        match map(&shape, &json) {
            Ok(Value::Record(mapped)) => {
                let Value::Record(value) = value else { panic!() };
                prop_assert!(mapped.len() <= value.len());
            }
            Ok(other) => prop_assert!(false, "{:?}", other),
            Err(mismatch) => prop_assert!(!mismatch.to_string().is_empty()),
        }
    }

    #[test]
    fn a_mismatch_shows_nothing_of_what_was_sent(secret in "[A-Z]{12}", at in 0_usize..7) {
        let shape = input(&action("{ n?: Long, s?: String, d?: decimal, b?: Bool, l?: Set<Long>, r?: { x?: Long } }"));
        let json = [
            format!(r#"{{"n": "{secret}"}}"#),
            format!(r#"{{"d": "{secret}"}}"#),
            format!(r#"{{"s": ["{secret}"]}}"#),
            format!(r#"{{"b": {{"{secret}": 1}}}}"#),
            format!(r#"{{"l": ["{secret}"]}}"#),
            format!(r#"{{"r": {{"{secret}": 1}}}}"#),
            format!(r#"{{"{secret}": 1}}"#),
        ];
        let mismatch = map(&shape, &json[at]).unwrap_err();
        prop_assert!(!mismatch.to_string().contains(&secret));
        let debug = format!("{mismatch:?}");
        prop_assert!(!debug.contains(&secret));
    }
}

/// The text of the first record that is called `unused`.
fn record_text(schema: &str) -> &str {
    let start = schema.find("\"unused\": {").unwrap() + "\"unused\": ".len();
    let end = schema.find("\n      },\n").unwrap() + "\n      }".len();
    &schema[start..end]
}
