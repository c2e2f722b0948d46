//! Builds an index in one pass over the embeddings. What is in memory meanwhile is a sample, the codes and the tables:
//! about 100 bytes a row.

use std::{
    fs::File,
    io::{BufWriter, Seek as _, SeekFrom, Write as _},
    os::unix::fs::FileExt as _,
};

use bytemuck::{bytes_of, cast_slice};
use rand::Rng;

use super::{
    IndexError,
    cells::Cells,
    codes::{Block, LANES, encode},
    file::{Header, Index, Layout, NO_ROW, ROWS_AT, Section, map},
    rotation::Rotation,
};

/// Rows from which the cells are learnt. With more, cells become hardly better.
const SAMPLE: usize = 65_536;

/// Writes an index to a file.
pub struct Builder {
    file: BufWriter<File>,
    header: Header,
    row_owners: Vec<u32>,
    owner_starts: Vec<u32>,
    label_starts: Vec<u32>,
    labels: String,
}

impl Builder {
    /// Begins an index of embeddings of length `dimension` in an empty file, open for reading and writing.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn new(file: File, dimension: usize) -> Result<Self, IndexError> {
        let mut file = BufWriter::with_capacity(1 << 20, file);
        file.seek(SeekFrom::Start(ROWS_AT))?;
        Ok(Self {
            file,
            header: Header::new(dimension),
            row_owners: Vec::new(),
            owner_starts: vec![0],
            label_starts: vec![0],
            labels: String::new(),
        })
    }

    /// Adds an owner with embeddings of unit length, row by row. Owners are numbered from 0, in the order of the calls.
    ///
    /// # Errors
    /// The embeddings have another length than the index's, there are too many, or the file cannot be written.
    pub fn add(&mut self, label: &str, embeddings: &[f32]) -> Result<(), IndexError> {
        let dimension = self.header.dimension as usize;
        if !embeddings.len().is_multiple_of(dimension) {
            return Err(IndexError::Invalid(format!("an embedding does not have {dimension} numbers")));
        }
        self.file.write_all(cast_slice(embeddings))?;
        self.labels.push_str(label);
        let rows = self.row_owners.len() + embeddings.len() / dimension;
        let too_many = |_| IndexError::Invalid("there are too many embeddings for an index".to_owned());
        let owner = u32::try_from(self.owner_starts.len() - 1).map_err(too_many)?;
        self.row_owners.resize(rows, owner);
        self.owner_starts.push(u32::try_from(rows).map_err(too_many)?);
        self.label_starts.push(u32::try_from(self.labels.len()).map_err(too_many)?);
        Ok(())
    }

    /// Divides the rows into cells, encodes them, and completes the file with the bytes of `description`.
    ///
    /// # Errors
    /// There are no embeddings or too many, or the file cannot be written.
    pub fn finish(self, description: &[u8], rng: &mut impl Rng) -> Result<Index, IndexError> {
        let Self { file, mut header, row_owners, owner_starts, label_starts, labels } = self;
        let file = file.into_inner().map_err(std::io::IntoInnerError::into_error)?;
        let dimension = header.dimension as usize;
        if row_owners.is_empty() {
            return Err(IndexError::Invalid("there is nothing to index".into()));
        }
        let encoded = {
            let map = map(&file)?;
            let rows: &[f32] = cast_slice(&map[ROWS_AT as usize..]);
            Encoded::of(rows, dimension, rng)
        };

        header.rows = row_owners.len() as u64;
        header.owners = owner_starts.len() as u64 - 1;
        header.cells = encoded.cell_starts.len() as u64 - 1;
        header.groups = (encoded.slots.len() / LANES) as u64;
        header.label_bytes = labels.len() as u64;
        header.description_bytes = description.len() as u64;
        let layout = Layout::of(&header)
            .ok_or_else(|| IndexError::Invalid("there are too many embeddings for an index".into()))?;
        file.set_len(layout.file_bytes() as u64)?;
        let sections: [(Section, &[u8]); 12] = [
            (Section::Description, description),
            (Section::Signs, cast_slice(&encoded.signs)),
            (Section::Directions, cast_slice(&encoded.directions)),
            (Section::Means, cast_slice(&encoded.means)),
            (Section::CellStarts, cast_slice(&encoded.cell_starts)),
            (Section::Codes, cast_slice(&encoded.codes)),
            (Section::Gains, cast_slice(&encoded.gains)),
            (Section::Slots, cast_slice(&encoded.slots)),
            (Section::RowOwners, cast_slice(&row_owners)),
            (Section::OwnerStarts, cast_slice(&owner_starts)),
            (Section::LabelStarts, cast_slice(&label_starts)),
            (Section::Labels, labels.as_bytes()),
        ];
        for (section, bytes) in sections {
            let range = layout.range(section);
            debug_assert_eq!(range.len(), bytes.len(), "{section:?}");
            file.write_all_at(bytes, range.start as u64)?;
        }
        // Last and durable, so that a file with a header is complete.
        file.sync_data()?;
        file.write_all_at(bytes_of(&header), 0)?;
        file.sync_data()?;
        Index::of_file(file)
    }
}

/// What is computed from the rows.
struct Encoded {
    signs: Vec<u64>,
    directions: Vec<f32>,
    means: Vec<f32>,
    cell_starts: Vec<u32>,
    codes: Vec<Block>,
    gains: Vec<f32>,
    slots: Vec<u32>,
}

impl Encoded {
    fn of(rows: &[f32], dimension: usize, rng: &mut impl Rng) -> Self {
        let count = rows.len() / dimension;
        let stride = count.div_ceil(SAMPLE);
        let sample: Vec<f32> = rows.chunks_exact(dimension).step_by(stride).flatten().copied().collect();
        let cells = Cells::train(&sample, dimension, (count as f64).sqrt().round() as usize, rng);
        drop(sample);
        let assigned: Vec<u32> = rows.chunks_exact(dimension).map(|row| cells.assign(row) as u32).collect();
        let means = means(rows, dimension, &assigned, cells.count());
        // The direction of a cell without rows is that of a row of the sample, which may be erased one day.
        let mut directions = cells.directions().to_vec();
        for (mean, direction) in means.chunks_exact(dimension).zip(directions.chunks_exact_mut(dimension)) {
            if mean.iter().all(|value| *value == 0.0) {
                direction.fill(0.0);
            }
        }
        let (cell_starts, slots) = fill(&assigned, cells.count());

        let header = Header::new(dimension);
        let (words, padded) = (header.words(), header.words() * 64);
        let signs: Vec<u64> = (0..Rotation::words(padded)).map(|_| rng.next_u64()).collect();
        let rotation = Rotation::new(padded, &signs);
        let mut codes = vec![Block::default(); slots.len() / LANES * words];
        let mut gains = vec![f32::NAN; slots.len()];
        let mut residual = vec![0.0; padded];
        let mut bits = vec![0; words];
        for (slot, &row) in slots.iter().enumerate().filter(|(_, row)| **row != NO_ROW) {
            let vector = &rows[row as usize * dimension..][..dimension];
            let mean = &means[assigned[row as usize] as usize * dimension..][..dimension];
            residual.fill(0.0);
            residual.iter_mut().zip(vector.iter().zip(mean)).for_each(|(r, (v, m))| *r = v - m);
            rotation.apply(&mut residual);
            gains[slot] = encode(&residual, &mut bits);
            for (word, bits) in bits.iter().enumerate() {
                codes[slot / LANES * words + word].0[slot % LANES] = *bits;
            }
        }
        Self { signs, directions, means, cell_starts, codes, gains, slots }
    }
}

/// Returns the mean of the rows of each cell.
fn means(rows: &[f32], dimension: usize, assigned: &[u32], cells: usize) -> Vec<f32> {
    let (mut means, mut counts) = (vec![0.0_f32; cells * dimension], vec![0_u32; cells]);
    for (row, &cell) in rows.chunks_exact(dimension).zip(assigned) {
        counts[cell as usize] += 1;
        let mean = &mut means[cell as usize * dimension..][..dimension];
        mean.iter_mut().zip(row).for_each(|(mean, value)| *mean += value);
    }
    for (mean, count) in means.chunks_exact_mut(dimension).zip(counts) {
        mean.iter_mut().for_each(|value| *value /= count.max(1) as f32);
    }
    means
}

/// Returns the first group of each cell (and the number of groups), and the row of each slot.
fn fill(assigned: &[u32], cells: usize) -> (Vec<u32>, Vec<u32>) {
    let mut counts = vec![0_usize; cells];
    assigned.iter().for_each(|&cell| counts[cell as usize] += 1);
    let mut starts = vec![0_u32];
    for count in counts {
        starts.push(starts[starts.len() - 1] + count.div_ceil(LANES) as u32);
    }
    let mut slots = vec![NO_ROW; starts[cells] as usize * LANES];
    let mut next: Vec<usize> = starts.iter().map(|group| *group as usize * LANES).collect();
    for (row, &cell) in assigned.iter().enumerate() {
        slots[next[cell as usize]] = row as u32;
        next[cell as usize] += 1;
    }
    (starts, slots)
}
