//! The tables of one generation, and the views that readers use.

use crate::db::{DbError, Tx};

/// Names of a generation's tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tables {
    pub(super) generation: u64,
}

impl Tables {
    /// What the table is called in this generation.
    #[must_use]
    pub fn name(&self, table: &str) -> String {
        format!("{table}_g{}", self.generation)
    }

    /// Which generation, from 1.
    #[must_use]
    pub const fn generation(&self) -> u64 {
        self.generation
    }

    /// Makes the plain names mean this generation.
    pub(super) async fn show(self, tx: &mut Tx, tables: &[&str]) -> Result<(), DbError> {
        for table in tables {
            let name = self.name(table);
            tx.script(&format!(
                "DROP VIEW IF EXISTS {table}; CREATE VIEW {table} AS SELECT * FROM {name}"
            ))
            .await?;
        }
        Ok(())
    }

    pub(super) async fn discard(self, tx: &mut Tx, tables: &[&str]) -> Result<(), DbError> {
        for table in tables {
            tx.script(&format!("DROP TABLE IF EXISTS {}", self.name(table))).await?;
        }
        Ok(())
    }
}
