//! What a query may reach and cost.

use std::sync::Arc;

use datafusion::common::{Result as PlanResult, plan_err};
use datafusion::execution::context::SessionContext;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::{GreedyMemoryPool, MemoryPool, UnboundedMemoryPool};
use datafusion::execution::object_store::ObjectStoreRegistry;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};
use object_store::ObjectStore;
use riverrun_engine::{Error, Result};
use url::Url;

/// The longest query, in bytes, and the most words and signs of one. What is planned is walked by recursion: with this many, the
/// stack of a thread of queries suffices however they are nested ([`QUERY_STACK`](riverrun_serve::server::QUERY_STACK)).
const QUERY_BYTES: usize = 64 << 10;
const QUERY_TOKENS: usize = 5_000;

/// Functions that make much of little: their results are not counted by the memory pool.
const GROWING: [&str; 11] = [
    "repeat",
    "lpad",
    "rpad",
    "array_repeat",
    "list_repeat",
    "array_resize",
    "list_resize",
    "range",
    "generate_series",
    "gen_series",
    "space",
];

/// Takes functions out of a session that could take any amount of memory.
pub fn drop_growing_functions(context: &SessionContext) {
    GROWING.iter().for_each(|name| context.deregister_udf(name));
}

/// Where queries run: with so much memory, without temporary files, and without any store of objects: tables that a query
/// names are those that were registered, and read through their connectors.
pub fn runtime(memory: Option<usize>) -> Result<Arc<RuntimeEnv>> {
    let pool: Arc<dyn MemoryPool> = match memory {
        Some(memory) => Arc::new(GreedyMemoryPool::new(memory)),
        None => Arc::new(UnboundedMemoryPool::default()),
    };
    let disk = DiskManagerBuilder::default().with_mode(match memory {
        Some(_) => DiskManagerMode::Disabled,
        None => DiskManagerMode::OsTmpDirectory,
    });
    let runtime = RuntimeEnvBuilder::new().with_memory_pool(pool).with_disk_manager_builder(disk);
    Ok(runtime.with_object_store_registry(Arc::new(NoStores)).build_arc()?)
}

/// Stores of objects that queries can name: none, not even the local disk.
#[derive(Debug)]
struct NoStores;

impl ObjectStoreRegistry for NoStores {
    fn register_store(&self, _: &Url, _: Arc<dyn ObjectStore>) -> Option<Arc<dyn ObjectStore>> {
        None
    }

    fn get_store(&self, url: &Url) -> PlanResult<Arc<dyn ObjectStore>> {
        plan_err!("queries reach the tables of the script only, not {}://…", url.scheme())
    }
}

/// Refuses a text that is too long or too deep to be planned safely.
pub fn check_text(query: &str) -> Result<()> {
    let refuse = |what: String| Err(Error::invalid(what).hint("ask several smaller queries"));
    if query.len() > QUERY_BYTES {
        return refuse(format!("the query is longer than {QUERY_BYTES} bytes"));
    }
    // What cannot be cut into tokens is refused with its place when it is parsed.
    let tokens = Tokenizer::new(&GenericDialect, query).tokenize().unwrap_or_default();
    let count = tokens.iter().filter(|token| !matches!(token, Token::Whitespace(_))).count();
    match count > QUERY_TOKENS {
        true => refuse(format!("the query has more than {QUERY_TOKENS} words and signs")),
        false => Ok(()),
    }
}
