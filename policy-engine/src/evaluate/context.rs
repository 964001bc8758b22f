//! The context of a request: what rules read as `context.input`, `.system`, `.session` and `.request`.
//!
//! It is built twice from the same facts: for Cedar, and for Dogwood's conditions over the past, which compare old events with
//! the request at hand. Dogwood has no dates, so there the two dates are absent.

use std::collections::BTreeMap;

use cedar_policy_core::ast::{Context, Name, PartialValue, Value as Cedar};
use cedar_policy_core::extensions::Extensions;
use dogwood_language::Value as Dogwood;

use crate::evaluate::names::{AGENT, GATEWAY, Names, uid};
use crate::evaluate::slices::Needs;
use crate::request::{Issuer, Request};
use crate::value::Value;

/// The id of the entity that carries the session's grants.
pub(super) const GRANTS: &str = "grants";
/// The id of the entity that carries the request's claims.
pub(super) const CLAIMS: &str = "claims";

/// A fact in the one form that both languages can be given.
enum Fact<'a> {
    Text(&'a str),
    Number(i64),
    Bool(bool),
    Texts(Vec<&'a str>),
    /// Microseconds since 1970.
    Time(u64),
    Agent(&'a str),
    Gateway(&'a str),
    Operator(&'a str),
    Grants(&'static str),
    Record(Group<'a>),
}

type Group<'a> = Vec<(&'static str, Fact<'a>)>;

/// Why a request has no context under the schema.
#[derive(Debug)]
pub(crate) struct Unrepresentable;

/// The context for Cedar, as far as rules could read it.
///
/// Every value has the type that the template gives it, and `input` was typed by the action's shape, so the context is valid
/// under the bundle's schema.
pub(super) fn for_cedar(
    names: &Names,
    request: &Request,
    input: &Value,
    needs: Needs,
    past: &[(String, bool)],
) -> Result<Context, Unrepresentable> {
    let mut context = BTreeMap::new();
    for (name, holds) in past {
        context.insert(name.as_str().into(), Cedar::from(*holds));
    }
    if needs.input {
        context.insert("input".into(), value_for_cedar(names, input)?);
    }
    // All are looked at, so that what is unrepresentable does not depend on what the rules read.
    for (name, mut group) in groups(request)? {
        let is_needed = match name {
            "system" => needs.system,
            "session" => needs.session,
            _ => needs.request,
        };
        if is_needed {
            group.retain(|(name, _)| *name != "openedAt" || needs.opened_at);
            context.insert(name.into(), record_for_cedar(names, &group)?);
        }
    }
    Ok(Context::Value(context.into()))
}

/// The context for Dogwood's conditions.
pub(super) fn for_dogwood(
    request: &Request,
    input: &Value,
) -> Result<Vec<(String, Dogwood)>, Unrepresentable> {
    let mut pairs = vec![("input".to_owned(), value_for_dogwood(input))];
    for (name, group) in groups(request)? {
        pairs.push((name.to_owned(), record_for_dogwood(&group)));
    }
    Ok(pairs)
}

fn groups(request: &Request) -> Result<Vec<(&'static str, Group<'_>)>, Unrepresentable> {
    Ok(vec![
        ("system", vec![("now", time(request.time_us)?)]),
        ("session", session(request)?),
        ("request", presentation(request)),
    ])
}

fn session(request: &Request) -> Result<Group<'_>, Unrepresentable> {
    let session = &request.session;
    let mut group = vec![
        ("id", Fact::Text(&session.id)),
        ("issuer", Fact::Record(vec![issuer(&session.issuer)])),
        ("delegated", Fact::Bool(session.delegated)),
        (
            "seq",
            Fact::Number(i64::try_from(session.seq).map_err(|_| Unrepresentable)?),
        ),
        ("openedAt", time(session.opened_at_us)?),
        ("grants", Fact::Grants(GRANTS)),
    ];
    if let Some(purpose) = &session.purpose {
        group.push(("purpose", Fact::Text(purpose)));
    }
    if let Some(subject) = &session.subject {
        group.push((
            "subject",
            Fact::Record(vec![
                ("iss", Fact::Text(&subject.iss)),
                ("sub", Fact::Text(&subject.sub)),
                ("assurance", Fact::Text(&subject.assurance)),
            ]),
        ));
    }
    Ok(group)
}

/// The kind is the attribute's name and the type of its value, so that no rule can take one kind for another.
fn issuer(issuer: &Issuer) -> (&'static str, Fact<'_>) {
    let fact = match issuer {
        Issuer::Operator(id) => Fact::Operator(id),
        Issuer::Gateway(id) => Fact::Gateway(id),
        Issuer::Agent(id) => Fact::Agent(id),
    };
    (issuer.kind(), fact)
}

fn presentation(request: &Request) -> Group<'_> {
    let mut group = vec![
        ("assurance", Fact::Text(request.assurance.as_str())),
        ("claims", Fact::Grants(CLAIMS)),
    ];
    if let Some(presenter) = &request.presenter {
        group.push(("presenter", Fact::Gateway(presenter)));
    }
    if let Some(approval) = &request.approval {
        let groups = approval.groups.keys().map(String::as_str).collect();
        group.push((
            "approval",
            Fact::Record(vec![
                ("groups", Fact::Texts(groups)),
                ("count", Fact::Number(i64::from(approval.count))),
            ]),
        ));
    }
    group
}

fn record_for_cedar(names: &Names, group: &Group<'_>) -> Result<Cedar, Unrepresentable> {
    let mut pairs = Vec::with_capacity(group.len());
    for (name, fact) in group {
        let value = match fact {
            Fact::Text(text) => text_for_cedar(text),
            Fact::Number(number) => Cedar::from(*number),
            Fact::Bool(value) => Cedar::from(*value),
            Fact::Texts(texts) => texts_for_cedar(texts.iter().copied()),
            Fact::Time(us) => made_by(&names.datetime, &written(*us))?,
            Fact::Agent(id) => Cedar::from(uid(&names.agent, id)),
            Fact::Gateway(id) => Cedar::from(uid(&names.gateway, id)),
            Fact::Operator(id) => Cedar::from(uid(&names.operator, id)),
            Fact::Grants(id) => Cedar::from(uid(&names.grants, id)),
            Fact::Record(inner) => record_for_cedar(names, inner)?,
        };
        pairs.push((*name, value));
    }
    Ok(Cedar::record(pairs, None))
}

/// A typed value as Cedar evaluates it.
pub(crate) fn value_for_cedar(names: &Names, value: &Value) -> Result<Cedar, Unrepresentable> {
    Ok(match value {
        Value::Bool(value) => Cedar::from(*value),
        Value::Long(value) => Cedar::from(*value),
        Value::Decimal(value) => made_by(&names.decimal, &value.to_string())?,
        Value::String(text) => text_for_cedar(text),
        Value::Set(items) => {
            let items = items.iter().map(|item| value_for_cedar(names, item));
            Cedar::set(items.collect::<Result<Vec<_>, _>>()?, None)
        }
        Value::Record(fields) => {
            let fields = fields
                .iter()
                .map(|(name, field)| Ok((name.as_str(), value_for_cedar(names, field)?)));
            Cedar::record(fields.collect::<Result<Vec<_>, Unrepresentable>>()?, None)
        }
    })
}

/// A string.
pub(super) fn text_for_cedar(text: &str) -> Cedar {
    Cedar::from(cedar_policy_core::ast::Literal::from(text))
}

/// A set of strings.
pub(super) fn texts_for_cedar<'a>(texts: impl Iterator<Item = &'a str>) -> Cedar {
    Cedar::set_of_lits(texts.map(cedar_policy_core::ast::Literal::from), None)
}

/// What one of Cedar's functions makes of a text.
fn made_by(function: &Name, text: &str) -> Result<Cedar, Unrepresentable> {
    let function = Extensions::all_available()
        .func(function)
        .map_err(|_| Unrepresentable)?;
    match function.call(&[text_for_cedar(text)]) {
        Ok(PartialValue::Value(value)) => Ok(value),
        Ok(PartialValue::Residual(_)) | Err(_) => Err(Unrepresentable),
    }
}

fn record_for_dogwood(group: &Group<'_>) -> Dogwood {
    let mut record = BTreeMap::new();
    for (name, fact) in group {
        let value = match fact {
            Fact::Text(text) => Dogwood::String((*text).to_owned()),
            Fact::Number(number) => Dogwood::Int(*number),
            Fact::Bool(value) => Dogwood::Bool(*value),
            Fact::Texts(texts) => Dogwood::Array(
                texts
                    .iter()
                    .map(|text| Dogwood::String((*text).to_owned()))
                    .collect(),
            ),
            Fact::Time(_) => continue,
            Fact::Agent(id) => entity_for_dogwood(AGENT, id),
            Fact::Gateway(id) => entity_for_dogwood(GATEWAY, id),
            Fact::Operator(id) => entity_for_dogwood("Countersign::Operator", id),
            Fact::Grants(id) => entity_for_dogwood("Countersign::Grants", id),
            Fact::Record(inner) => record_for_dogwood(inner),
        };
        record.insert((*name).to_owned(), value);
    }
    Dogwood::Object(record)
}

fn entity_for_dogwood(name: &str, id: &str) -> Dogwood {
    Dogwood::Entity {
        ty: name.to_owned(),
        id: id.to_owned(),
    }
}

/// A typed value as Dogwood compares it.
pub(crate) fn value_for_dogwood(value: &Value) -> Dogwood {
    match value {
        Value::Bool(value) => Dogwood::Bool(*value),
        Value::Long(value) => Dogwood::Int(*value),
        Value::Decimal(value) => Dogwood::Decimal(value.to_string()),
        Value::String(value) => Dogwood::String(value.clone()),
        Value::Set(items) => Dogwood::Array(items.iter().map(value_for_dogwood).collect()),
        Value::Record(fields) => Dogwood::Object(
            fields
                .iter()
                .map(|(name, field)| (name.clone(), value_for_dogwood(field)))
                .collect(),
        ),
    }
}

/// A time that Cedar's `datetime` can be written for: in years of four digits.
fn time(us: u64) -> Result<Fact<'static>, Unrepresentable> {
    /// 10000-01-01T00:00:00Z.
    const END_US: u64 = 253_402_300_800_000_000;
    if us >= END_US {
        return Err(Unrepresentable);
    }
    Ok(Fact::Time(us))
}

/// A time as Cedar's `datetime` reads it: UTC, to the millisecond.
fn written(us: u64) -> String {
    let ms = us / 1_000;
    let (seconds, millisecond) = (ms / 1_000, ms % 1_000);
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil_date(days);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millisecond:03}Z")
}

/// Year, month and day of the proleptic Gregorian calendar, so many days after 1970-01-01.
///
/// Counted in years that begin in March, so that the leap day is the last of its year.
fn civil_date(days: u64) -> (u64, u64, u64) {
    const DAYS_BEFORE_1970: u64 = 719_468;
    const DAYS_PER_ERA: u64 = 146_097;
    let day = days.saturating_add(DAYS_BEFORE_1970);
    let (era, day_of_era) = (day / DAYS_PER_ERA, day % DAYS_PER_ERA);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    (year, month, day_of_month)
}

#[cfg(test)]
mod tests {
    use super::{Fact, time, written};

    fn text(us: u64) -> Option<String> {
        match time(us) {
            Ok(Fact::Time(us)) => Some(written(us)),
            _ => None,
        }
    }

    #[test]
    fn times_are_written_as_cedar_reads_them() {
        let cases = [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000_000, "2000-02-29T00:00:00.000Z"),
            (951_868_799_999_999, "2000-02-29T23:59:59.999Z"),
            (951_868_800_000_000, "2000-03-01T00:00:00.000Z"),
            (4_107_542_400_000_000, "2100-03-01T00:00:00.000Z"),
            (1_735_689_599_123_456, "2024-12-31T23:59:59.123Z"),
            (253_402_300_799_999_999, "9999-12-31T23:59:59.999Z"),
        ];
        for (us, expected) in cases {
            assert_eq!(text(us).as_deref(), Some(expected));
        }
        assert_eq!(text(253_402_300_800_000_000), None);
        assert_eq!(text(u64::MAX), None);
    }
}
