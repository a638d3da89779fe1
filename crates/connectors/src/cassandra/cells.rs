//! Columns of rows as cells of statements: from arrow's columns straight into the request, no value made in between.

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array, Int8Array,
    Int16Array, Int32Array, Int64Array, ListArray, MapArray, StringArray, StructArray, TimestampMicrosecondArray, UInt8Array,
    UInt16Array, UInt32Array, UInt64Array,
};
use arrow::datatypes::{DataType, TimeUnit};
use riverrun_engine::{Error, Result};
use scylla::cluster::metadata::{CollectionType, ColumnType, NativeType};
use scylla::serialize::SerializationError;
use scylla::serialize::writers::{CellValueBuilder, CellWriter, WrittenCellProof};

/// Days before 1970 in Cassandra's count of them.
const EPOCH_DAY: i64 = 1 << 31;

/// A column of some rows, and how its values are written.
pub(super) enum Cells {
    Boolean(BooleanArray),
    TinyInt(Int8Array),
    SmallInt(Int16Array),
    Int(Int32Array),
    BigInt(Int64Array),
    UnsignedTiny(UInt8Array),
    UnsignedSmall(UInt16Array),
    Unsigned(UInt32Array),
    UnsignedBig(UInt64Array),
    Float(Float32Array),
    Double(Float64Array),
    Decimal(Decimal128Array, i32),
    Text(StringArray),
    Blob(BinaryArray),
    Date(Date32Array),
    /// What is below a millisecond is cut off.
    Millis(TimestampMicrosecondArray),
    Micros(TimestampMicrosecondArray),
    /// Elements that are NULL are left out: Cassandra's lists hold none.
    List(ListArray, Box<Cells>),
    /// Entries whose value is NULL are left out.
    Map(MapArray, Box<(Cells, Cells)>),
    /// A user-defined type or a tuple: the fields in its order.
    Fields(StructArray, Vec<Cells>),
}

impl Cells {
    /// The values of `array`, for a column of this type.
    pub fn bind(array: &ArrayRef, typ: &ColumnType<'_>) -> Result<Self> {
        use DataType as D;
        Ok(match (array.data_type(), typ) {
            (D::Boolean, _) => Self::Boolean(array.as_boolean().clone()),
            (D::Int8, _) => Self::TinyInt(array.as_primitive().clone()),
            (D::Int16, _) => Self::SmallInt(array.as_primitive().clone()),
            (D::Int32, _) => Self::Int(array.as_primitive().clone()),
            (D::Int64, _) => Self::BigInt(array.as_primitive().clone()),
            (D::UInt8, _) => Self::UnsignedTiny(array.as_primitive().clone()),
            (D::UInt16, _) => Self::UnsignedSmall(array.as_primitive().clone()),
            (D::UInt32, _) => Self::Unsigned(array.as_primitive().clone()),
            (D::UInt64, _) => Self::UnsignedBig(array.as_primitive().clone()),
            (D::Float32, _) => Self::Float(array.as_primitive().clone()),
            (D::Float64, _) => Self::Double(array.as_primitive().clone()),
            (D::Decimal128(_, scale), _) => Self::Decimal(array.as_primitive().clone(), i32::from(*scale)),
            (D::Utf8, _) => Self::Text(array.as_string().clone()),
            (D::Binary, _) => Self::Blob(array.as_binary().clone()),
            (D::Date32, _) => Self::Date(array.as_primitive().clone()),
            (D::Timestamp(TimeUnit::Microsecond, _), ColumnType::Native(NativeType::BigInt)) => {
                Self::Micros(array.as_primitive().clone())
            }
            (D::Timestamp(TimeUnit::Microsecond, _), _) => Self::Millis(array.as_primitive().clone()),
            (D::List(_), ColumnType::Collection { typ: CollectionType::List(item), .. }) => {
                let list = array.as_list::<i32>().clone();
                let items = Self::bind(list.values(), item)?;
                Self::List(list, Box::new(items))
            }
            (D::Map(..), ColumnType::Collection { typ: CollectionType::Map(key, value), .. }) => {
                let map = array.as_map().clone();
                let entries = (Self::bind(map.keys(), key)?, Self::bind(map.values(), value)?);
                Self::Map(map, Box::new(entries))
            }
            (D::Struct(_), typ) => Self::fields(array.as_struct(), typ)?,
            (data_type, _) => return Err(Error::permanent(format!("a {data_type} cannot be written to Cassandra"))),
        })
    }

    fn fields(rows: &StructArray, typ: &ColumnType<'_>) -> Result<Self> {
        let fields = match typ {
            ColumnType::UserDefinedType { definition, .. } => {
                let fields = definition.field_types.iter().map(|(name, typ)| {
                    let column = rows.column_by_name(name);
                    Self::bind(column.ok_or_else(|| Error::permanent(format!("the rows have no field {name}")))?, typ)
                });
                fields.collect::<Result<_>>()?
            }
            ColumnType::Tuple(types) => {
                rows.columns().iter().zip(types).map(|(column, typ)| Self::bind(column, typ)).collect::<Result<_>>()?
            }
            _ => return Err(Error::permanent("a STRUCT goes to a user-defined type or a tuple")),
        };
        Ok(Self::Fields(rows.clone(), fields))
    }

    /// The column itself.
    pub fn array(&self) -> &dyn Array {
        match self {
            Self::Boolean(a) => a,
            Self::TinyInt(a) => a,
            Self::SmallInt(a) => a,
            Self::Int(a) => a,
            Self::BigInt(a) => a,
            Self::UnsignedTiny(a) => a,
            Self::UnsignedSmall(a) => a,
            Self::Unsigned(a) => a,
            Self::UnsignedBig(a) => a,
            Self::Float(a) => a,
            Self::Double(a) => a,
            Self::Decimal(a, _) => a,
            Self::Text(a) => a,
            Self::Blob(a) => a,
            Self::Date(a) => a,
            Self::Millis(a) | Self::Micros(a) => a,
            Self::List(a, _) => a,
            Self::Map(a, _) => a,
            Self::Fields(a, _) => a,
        }
    }

    /// Whether there is no value in this row.
    pub fn is_null(&self, row: usize) -> bool {
        self.array().is_null(row)
    }

    /// Writes the value of a row, or that there is none.
    pub fn write<'b>(&self, row: usize, cell: CellWriter<'b>) -> Result<WrittenCellProof<'b>, SerializationError> {
        if self.is_null(row) {
            return Ok(cell.set_null());
        }
        let written = match self {
            Self::Boolean(a) => cell.set_value(&[u8::from(a.value(row))]),
            Self::TinyInt(a) => cell.set_value(&a.value(row).to_be_bytes()),
            Self::SmallInt(a) => cell.set_value(&a.value(row).to_be_bytes()),
            Self::Int(a) => cell.set_value(&a.value(row).to_be_bytes()),
            Self::BigInt(a) => cell.set_value(&a.value(row).to_be_bytes()),
            Self::UnsignedTiny(a) => cell.set_value(&i16::from(a.value(row)).to_be_bytes()),
            Self::UnsignedSmall(a) => cell.set_value(&i32::from(a.value(row)).to_be_bytes()),
            Self::Unsigned(a) => cell.set_value(&i64::from(a.value(row)).to_be_bytes()),
            Self::UnsignedBig(a) => cell.set_value(shortest(&i128::from(a.value(row)).to_be_bytes())),
            Self::Float(a) => cell.set_value(&a.value(row).to_be_bytes()),
            Self::Double(a) => cell.set_value(&a.value(row).to_be_bytes()),
            Self::Decimal(a, scale) => {
                let mut value = cell.into_value_builder();
                value.append_bytes(&scale.to_be_bytes());
                value.append_bytes(shortest(&a.value(row).to_be_bytes()));
                value.finish()
            }
            Self::Text(a) => cell.set_value(a.value(row).as_bytes()),
            Self::Blob(a) => cell.set_value(a.value(row)),
            Self::Date(a) => cell.set_value(&((i64::from(a.value(row)) + EPOCH_DAY) as u32).to_be_bytes()),
            Self::Millis(a) => cell.set_value(&a.value(row).div_euclid(1000).to_be_bytes()),
            Self::Micros(a) => cell.set_value(&a.value(row).to_be_bytes()),
            Self::List(list, items) => {
                let (from, to) = (list.value_offsets()[row] as usize, list.value_offsets()[row + 1] as usize);
                let mut value = cell.into_value_builder();
                let there = |item: &usize| !items.is_null(*item);
                count(&mut value, (from..to).filter(there).count());
                for item in (from..to).filter(there) {
                    items.write(item, value.make_sub_writer())?;
                }
                value.finish()
            }
            Self::Map(map, entries) => {
                let (from, to) = (map.value_offsets()[row] as usize, map.value_offsets()[row + 1] as usize);
                let (keys, values) = &**entries;
                let mut value = cell.into_value_builder();
                let there = |entry: &usize| !values.is_null(*entry);
                count(&mut value, (from..to).filter(there).count());
                for entry in (from..to).filter(there) {
                    keys.write(entry, value.make_sub_writer())?;
                    values.write(entry, value.make_sub_writer())?;
                }
                value.finish()
            }
            Self::Fields(_, fields) => {
                let mut value = cell.into_value_builder();
                for field in fields {
                    field.write(row, value.make_sub_writer())?;
                }
                value.finish()
            }
        };
        written.map_err(SerializationError::new)
    }
}

fn count(value: &mut CellValueBuilder<'_>, elements: usize) {
    // A cell has less than 2^31 bytes, so fewer elements.
    value.append_bytes(&(elements as i32).to_be_bytes());
}

/// A big-endian number in two's complement without the bytes that only repeat its sign.
fn shortest(bytes: &[u8]) -> &[u8] {
    let sign = if bytes[0] >= 0x80 { 0xff } else { 0 };
    let superfluous = bytes.windows(2).take_while(|pair| pair[0] == sign && (pair[1] ^ sign) < 0x80).count();
    &bytes[superfluous..]
}
