//! The tables, a file each. A new comparison is a new file here and a line in [`all`].

mod growth;
mod instructions;
mod overload;
mod push;
mod push_tls;
mod python;
mod reliable;
mod requests;
mod slow_clients;
mod slowloris;
mod start;
mod streams;
mod waiting;

use crate::plan::{Size, Table};

/// Every table, in the order of the report; numbers of streams of those of `push`, and of slow clients of `slowloris`, are
/// divided by `divide`.
pub(crate) fn all(size: Size, divide: usize) -> Vec<Table> {
    let mut tables = vec![
        requests::table(size),
        reliable::of_requests(size),
        reliable::of_watching(),
        overload::table(),
        instructions::table(),
        python::table(size),
        waiting::table(size),
        slow_clients::table(size),
        slowloris::table(size, divide),
        streams::table(size),
        start::table(),
        growth::of_requests(size),
        growth::of_streams(),
        growth::of_channels(),
    ];
    tables.extend(push::tables(divide));
    tables.extend(push_tls::tables(divide));
    tables
}
