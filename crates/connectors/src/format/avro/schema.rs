//! Avro schemas as they are meant: names resolved, every type written out where it is used.
//!
//! Invariant: two schemas that read the same bytes into the same values are the same [`Record`], whatever their names,
//! documentation and order of definitions. A schema that contains itself has no columns and is refused.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

/// The deepest nesting of named types; deeper ones would exhaust the stack of who walks them.
const DEEPEST: usize = 48;

/// The most types that a schema may have once all are written out.
const LARGEST: usize = 20_000;

/// A type.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Type {
    Null,
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Bytes,
    /// A `string`, `uuid` too.
    Text,
    /// Days since 1970.
    Date,
    /// A `long` of so many nanoseconds since 1970.
    Timestamp(i64),
    /// Digits, those behind the point, and the size where it is `fixed`.
    Decimal(u8, i8, Option<usize>),
    Fixed(usize),
    Enum(Vec<String>),
    Array(Box<Type>),
    Map(Box<Type>),
    Record(Record),
    /// A union of null and one other type, and whether null stands first.
    Nullable(Box<Type>, bool),
    /// Any other union.
    Union(Vec<Type>),
}

/// A record: its fields in order.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Record {
    pub fields: Vec<Field>,
}

/// A field of a record.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Field {
    pub name: String,
    pub kind: Type,
    /// What stands in for it where a record's schema lacks it.
    pub default: Option<Value>,
}

pub(crate) const MILLIS: i64 = 1_000_000;
pub(crate) const MICROS: i64 = 1000;
pub(crate) const NANOS: i64 = 1;

impl Type {
    /// The type without NULL.
    pub fn value(&self) -> &Type {
        match self {
            Self::Nullable(value, _) => value,
            other => other,
        }
    }

    /// The type as a schema says it, for messages.
    pub fn name(&self) -> String {
        match self {
            Self::Null => "null".into(),
            Self::Boolean => "boolean".into(),
            Self::Int => "int".into(),
            Self::Long => "long".into(),
            Self::Float => "float".into(),
            Self::Double => "double".into(),
            Self::Bytes => "bytes".into(),
            Self::Text => "string".into(),
            Self::Date => "date".into(),
            Self::Timestamp(MILLIS) => "timestamp-millis".into(),
            Self::Timestamp(MICROS) => "timestamp-micros".into(),
            Self::Timestamp(_) => "timestamp-nanos".into(),
            Self::Decimal(precision, scale, _) => format!("decimal({precision}, {scale})"),
            Self::Fixed(size) => format!("fixed({size})"),
            Self::Enum(_) => "enum".into(),
            Self::Array(item) => format!("array of {}", item.name()),
            Self::Map(value) => format!("map of {}", value.name()),
            Self::Record(_) => "record".into(),
            Self::Nullable(value, _) => format!("{} or null", value.name()),
            Self::Union(kinds) => format!("union of {}", kinds.iter().map(Type::name).collect::<Vec<_>>().join(", ")),
        }
    }

    /// How deep it is nested, and how many types it holds.
    fn measure(&self) -> (usize, usize) {
        match self {
            Self::Array(inside) | Self::Map(inside) | Self::Nullable(inside, _) => measure(std::iter::once(inside.as_ref())),
            Self::Union(kinds) => measure(kinds.iter()),
            Self::Record(record) => measure(record.fields.iter().map(|f| &f.kind)),
            _ => (1, 1),
        }
    }

    /// Whether an array of this type could have any number of items in no bytes.
    fn takes_no_bytes(&self) -> bool {
        match self {
            Self::Null | Self::Fixed(0) => true,
            Self::Record(record) => record.fields.iter().all(|f| f.kind.takes_no_bytes()),
            _ => false,
        }
    }

    /// The schema in a form that means the same to arrow-avro: times as plain `long`s, and named types named by `path`, so that
    /// the parts of two schemas that stand at the same place have the same name.
    pub fn plain(&self, path: &str) -> Value {
        match self {
            Self::Date => json!({"type": "int", "logicalType": "date"}),
            Self::Timestamp(_) => json!("long"),
            Self::Decimal(precision, scale, size) => {
                let mut decimal = match size {
                    Some(size) => json!({"type": "fixed", "name": path, "size": size}),
                    None => json!({"type": "bytes"}),
                };
                decimal["logicalType"] = json!("decimal");
                decimal["precision"] = json!(precision);
                decimal["scale"] = json!(scale);
                decimal
            }
            Self::Fixed(size) => json!({"type": "fixed", "name": path, "size": size}),
            Self::Enum(symbols) => json!({"type": "enum", "name": path, "symbols": symbols}),
            Self::Array(item) => json!({"type": "array", "items": item.plain(&format!("{path}_i"))}),
            Self::Map(value) => json!({"type": "map", "values": value.plain(&format!("{path}_v"))}),
            Self::Record(record) => record.plain(path),
            Self::Nullable(value, true) => json!(["null", value.plain(path)]),
            Self::Nullable(value, false) => json!([value.plain(path), "null"]),
            Self::Union(kinds) => kinds.iter().enumerate().map(|(i, kind)| kind.plain(&format!("{path}_{i}"))).collect(),
            simple => json!(simple.name()),
        }
    }
}

impl Record {
    /// Parses a schema; `references` are those that it refers to, each behind what it needs.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str, references: &[String]) -> Result<Self, String> {
        let mut parser = Parser::default();
        for text in references {
            parser.schema(text)?;
        }
        match parser.schema(text)? {
            Type::Record(record) => Ok(record),
            other => Err(format!("it is a schema of {}, not of a record", other.name())),
        }
    }

    /// The field of a name.
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|f| f.name == name)
    }

    /// As [`Type::plain`].
    pub fn plain(&self, path: &str) -> Value {
        let kind = |field: &Field| field.kind.plain(&format!("{path}_{}", field.name));
        let fields = self.fields.iter().map(|field| json!({"name": field.name, "type": kind(field)}));
        json!({"type": "record", "name": path, "fields": fields.collect::<Vec<_>>()})
    }
}

/// What holds these types.
fn measure<'a>(inside: impl Iterator<Item = &'a Type>) -> (usize, usize) {
    inside.map(Type::measure).fold((1, 1), |(deep, size), (d, s)| (deep.max(d + 1), size + s))
}

/// What is known while a schema is read.
#[derive(Default)]
struct Parser {
    /// Named types by their full names; those that are being read have no type yet.
    named: HashMap<String, Option<Type>>,
    size: usize,
}

impl Parser {
    fn schema(&mut self, text: &str) -> Result<Type, String> {
        // A bare name is written without quotes by some.
        let value = serde_json::from_str(text).map_err(|e| format!("the schema is no JSON: {e}"))?;
        self.of(&value, "")
    }

    fn of(&mut self, value: &Value, namespace: &str) -> Result<Type, String> {
        self.grow(1)?;
        match value {
            Value::String(name) => self.called(name, namespace),
            Value::Array(kinds) => {
                let kinds = kinds.iter().map(|kind| self.of(kind, namespace)).collect::<Result<Vec<_>, _>>()?;
                Ok(union(kinds))
            }
            Value::Object(object) => self.object(object, namespace),
            other => Err(format!("{other} is no type")),
        }
    }

    fn grow(&mut self, by: usize) -> Result<(), String> {
        self.size += by;
        if self.size > LARGEST { Err(format!("the schema has more than {LARGEST} types")) } else { Ok(()) }
    }

    fn called(&mut self, name: &str, namespace: &str) -> Result<Type, String> {
        if let Some(primitive) = primitive(name) {
            return Ok(primitive);
        }
        let full = full_name(name, namespace);
        // A name without dots may also be one without a namespace.
        let known = self.named.get(&full).or_else(|| self.named.get(name));
        match known.cloned() {
            Some(Some(kind)) => {
                let (deep, size) = kind.measure();
                self.grow(size)?;
                if deep > DEEPEST { Err(format!("{full} is nested more than {DEEPEST} levels deep")) } else { Ok(kind) }
            }
            Some(None) => Err(format!("{full} contains itself: no column can hold that")),
            None => Err(format!("there is no type {full}")),
        }
    }

    fn object(&mut self, object: &Map<String, Value>, namespace: &str) -> Result<Type, String> {
        let text = |key: &str| object.get(key).and_then(Value::as_str);
        let inside =
            |key: &str| object.get(key).ok_or_else(|| format!("'{key}' is missing in {}", Value::Object(object.clone())));
        let kind = match inside("type")? {
            Value::String(kind) => kind.as_str(),
            nested => return self.of(nested, namespace),
        };
        match kind {
            "array" => {
                let item = self.of(inside("items")?, namespace)?;
                // A record of a few bytes could hold 2 billion of them.
                if item.takes_no_bytes() {
                    Err("the items of an array take no bytes".into())
                } else {
                    Ok(Type::Array(Box::new(item)))
                }
            }
            "map" => Ok(Type::Map(Box::new(self.of(inside("values")?, namespace)?))),
            "record" | "error" | "enum" | "fixed" => {
                let name = text("name").ok_or_else(|| format!("a {kind} has no name"))?;
                let full = full_name(name, text("namespace").unwrap_or(namespace));
                self.named.insert(full.clone(), None);
                let own = full.rsplit_once('.').map_or("", |(namespace, _)| namespace).to_owned();
                let read = match kind {
                    "enum" => Type::Enum(texts(inside("symbols")?)?),
                    "fixed" => fixed(object, size(inside("size")?)?),
                    _ => self.record(inside("fields")?, &own)?,
                };
                self.named.insert(full, Some(read.clone()));
                Ok(read)
            }
            simple => Ok(logical(self.called(simple, namespace)?, object)),
        }
    }

    fn record(&mut self, fields: &Value, namespace: &str) -> Result<Type, String> {
        let fields = fields.as_array().ok_or("the fields of a record are no list")?;
        let mut record = Record::default();
        for field in fields {
            let name = field["name"].as_str().ok_or("a field has no name")?.to_owned();
            let kind = self.of(&field["type"], namespace).map_err(|e| format!("field {name}: {e}"))?;
            if record.field(&name).is_some() {
                return Err(format!("there are two fields {name}"));
            }
            record.fields.push(Field { name, kind, default: field.get("default").cloned() });
        }
        Ok(Type::Record(record))
    }
}

fn primitive(name: &str) -> Option<Type> {
    Some(match name {
        "null" => Type::Null,
        "boolean" => Type::Boolean,
        "int" => Type::Int,
        "long" => Type::Long,
        "float" => Type::Float,
        "double" => Type::Double,
        "bytes" => Type::Bytes,
        "string" => Type::Text,
        _ => return None,
    })
}

fn full_name(name: &str, namespace: &str) -> String {
    if name.contains('.') || namespace.is_empty() { name.to_owned() } else { format!("{namespace}.{name}") }
}

fn union(mut kinds: Vec<Type>) -> Type {
    let null = kinds.iter().position(|kind| *kind == Type::Null);
    match (kinds.len(), null) {
        (1, _) => kinds.remove(0),
        (2, Some(at)) if kinds[1 - at] != Type::Null => Type::Nullable(Box::new(kinds.swap_remove(1 - at)), at == 0),
        _ => Type::Union(kinds),
    }
}

fn texts(value: &Value) -> Result<Vec<String>, String> {
    let text = |v: &Value| v.as_str().map(str::to_owned);
    value.as_array().and_then(|list| list.iter().map(text).collect()).ok_or_else(|| format!("{value} is no list of names"))
}

fn size(value: &Value) -> Result<usize, String> {
    let size = value.as_u64().and_then(|size| i32::try_from(size).ok()).ok_or_else(|| format!("{value} is no size"))?;
    Ok(size as usize)
}

/// What a logical type makes of a type. One that does not fit is as if it were not there, as the specification says.
fn logical(kind: Type, object: &Map<String, Value>) -> Type {
    match (&kind, object.get("logicalType").and_then(Value::as_str)) {
        (Type::Int, Some("date")) => Type::Date,
        (Type::Long, Some("timestamp-millis" | "local-timestamp-millis")) => Type::Timestamp(MILLIS),
        (Type::Long, Some("timestamp-micros" | "local-timestamp-micros")) => Type::Timestamp(MICROS),
        (Type::Long, Some("timestamp-nanos" | "local-timestamp-nanos")) => Type::Timestamp(NANOS),
        (Type::Bytes, Some("decimal")) => decimal(object, None).unwrap_or(kind),
        _ => kind,
    }
}

fn fixed(object: &Map<String, Value>, size: usize) -> Type {
    let is_decimal = object.get("logicalType").and_then(Value::as_str) == Some("decimal");
    is_decimal.then(|| decimal(object, Some(size))).flatten().unwrap_or(Type::Fixed(size))
}

fn decimal(object: &Map<String, Value>, size: Option<usize>) -> Option<Type> {
    let digits = |key: &str, otherwise| object.get(key).map_or(Some(otherwise), Value::as_u64);
    let (precision, scale) = (digits("precision", 0)?, digits("scale", 0)?);
    let fits = (1..=76).contains(&precision) && scale <= precision;
    fits.then_some(Type::Decimal(precision as u8, scale as i8, size))
}
