package main

// recoveries are wrong conclusions from what a crash has left.
func recoveries() []mutant {
	return []mutant{
		{
			name: "log-trusted-above-mark", what: "frames in the log above the mark count as durable",
			edits: []edit{{"recovery.go", `	r.at = r.store.position()
	r.at.mark = start
	return nil`, `	b, err := r.readSegment(start.segment, start.offset, r.sizes[start.segment])
	if err != nil {
		return err
	}
	for {
		f, n, err := decodeFrame(b, r.state.identity.key)
		if err != nil || f.prev != start.sum || f.firstSeq != start.seq+1 {
			break
		}
		if err := r.replayFrame(&f, start.segment, start.offset); err != nil {
			return err
		}
		start = mark{seq: f.lastSeq(), segment: start.segment, offset: start.offset + int64(n), sum: f.checksum}
		b = b[n:]
	}
	r.at = r.store.position()
	r.at.mark = start
	return nil`}},
			tests: "TestCrashLives",
		},
		{
			name: "journal-not-asked", what: "frames above the mark come from the log only",
			edits: []edit{{"recovery.go", `r.journal = sortJournalFrames(journal)`, `r.journal = sortJournalFrames(journal[:0])`}},
			tests: "TestCrashLives",
		},
		{
			name: "tail-not-cut", what: "a torn tail stays and is written over",
			edits: []edit{{"recovery.go", `return r.above || len(r.tailAt) > 0 }`, `return len(r.tailAt) > 0 }`}},
			tests: "TestDamageTornTail",
		},
		{
			name: "tail-unflushed", what: "the tail that recovery writes is not flushed",
			edits: []edit{{"recovery_complete.go", `if err := s.file.Sync(); err != nil {`, `if err := error(nil); err != nil {`}},
			tests: "TestCrashLives",
		},
		{
			name: "number-taken-again", what: "recovery writes to the number behind the mark's, which may be taken",
			edits: []edit{
				{"recovery_complete.go", `	highest := r.highest()`, `	highest := r.state.state.mark.segment
	if err := removeIfExists(r.dir, segmentPath(highest+1)); err != nil {
		return nil, err
	}`},
				{"recovery.go", `	return r.highest() + 1, segmentHeaderBytes`, `	return r.state.state.mark.segment + 1, segmentHeaderBytes`},
			},
			tests: "TestCrashLives",
		},
		{
			name: "gap-ignored", what: "journal frames behind a gap are dropped in silence",
			edits: []edit{{"recovery.go", `	if len(journal) > 0 {
		return`, `	if false {
		return`}},
			tests: "TestDamageGapBeforeJournal",
		},
		{
			name: "lost-tail-unnoticed", what: "a log that ends before its mark opens as if that were its end",
			edits: []edit{
				{"recovery.go", `start != m {`, `start != m && start.seq == 0 {`},
				{"recovery.go", `damage == nil && end.sum != sum {`, `damage == nil && end.sum != sum && end.seq == 0 {`},
				{"recovery.go", `		if r.sizes[number] < end {
			return`, `		end = min(end, r.sizes[number])
		if false {
			return`},
				{"recovery.go", `			reason = "a settled frame is damaged"`, `			return frames, at, nil`},
			},
			tests: "TestDamageLogTruncatedBelowMark",
		},
		{
			name: "chain-unchecked", what: "a frame need not follow the one before it",
			edits: []edit{
				{"recovery.go", `f.kind != kindLog || f.prev != at.sum || f.firstSeq != at.seq+1 || f.epoch > r.epoch:`, `f.kind != kindLog || f.firstSeq != at.seq+1 || f.epoch > r.epoch:`},
				{"recovery.go", `err != nil || f.prev != sum || f.firstSeq`, `err != nil || f.prev != sum && false || f.firstSeq`},
				{"recovery.go", `f.kind != kindLog || f.prev != at.sum || f.firstSeq != at.seq+1 {`, `f.kind != kindLog || f.firstSeq != at.seq+1 {`},
			},
			tests: "TestDamageGapBeforeJournal",
		},
		{
			name: "later-epoch-accepted", what: "a frame of an epoch that never was is accepted",
			edits: []edit{{"recovery.go", `f.firstSeq != at.seq+1 || f.epoch > r.epoch:`, `f.firstSeq != at.seq+1:`}},
			tests: "TestDamageLaterEpoch",
		},
		{
			name: "replay-reversed", what: "the journal's frames are replayed last first",
			edits: []edit{{"recovery.go", `cmp.Compare(a.firstSeq, b.firstSeq); c != 0`, `cmp.Compare(b.firstSeq, a.firstSeq); c != 0`}},
			tests: "TestCrashLives",
		},
		{
			name: "foreign-segment", what: "a segment's header may be another space's",
			edits: []edit{{"recovery.go", `case h.identity != r.state.identity:`, `case false:`}},
			tests: "TestDamageFileOfAnotherSpace",
		},
		{
			name: "foreign-checkpoint", what: "another space's checkpoint is removed as stale",
			edits: []edit{{"recovery.go", `if openBlock(b, checkpointMagic) == nil && decodeIdentity`, `if false && decodeIdentity`}},
			tests: "TestDamageFileOfAnotherSpace",
		},
		{
			name: "foreign-space", what: "a directory may hold a space of another name",
			edits: []edit{{"spacefile.go", `if s.id == id || s.next == id {`, `if true {`}},
			tests: "TestDamageFileOfAnotherSpace",
		},
		{
			name: "unreadable-is-damage", what: "a read that fails is taken for damage",
			edits: []edit{{"files.go", `	default:
		return fmt.Errorf("read %s: %w", file, err)`, `	default:
		reason = "cannot be read"`}},
			tests: "TestFailedReadIsNoVerdict",
		},
	}
}

// formats are checks of stored bytes that are left out.
func formats() []mutant {
	return []mutant{
		{
			name: "frame-sum-unchecked", what: "a frame's checksum is not verified",
			edits: []edit{{"record.go", `if sumExcept(keyedSum(key), b) != f.checksum {`, `if false {`}},
			tests: "TestFuzzSeedsOfFrame",
		},
		{
			name: "frame-sum-unkeyed", what: "checksums do not start from the space's key",
			edits: []edit{{"record.go", `sumNumber(0, key)`, `sumNumber(0, key*0)`}},
			tests: "TestFormatEncodes",
		},
		{
			name: "record-sum-unchecked", what: "a memory's checksum is not verified when it is read",
			edits: []edit{{"operation.go", `n != len(record) || operationSum(record, key, seq) != binary.LittleEndian.Uint32(record[4:])`, `n != len(record)`}},
			tests: "TestDamageBytes",
		},
		{
			name: "record-without-seq", what: "a record verifies at any seq, so an old version can stand in for a new one",
			edits: []edit{{"operation.go", `sumNumber(keyedSum(key), seq)`, `sumNumber(keyedSum(key), seq*0)`}},
			tests: "TestFormatEncodes",
		},
		{
			name: "block-sum-unchecked", what: "the checksum of a header, slot or page is not verified",
			edits: []edit{{"record.go", `|| crc32.Checksum(b[:end], castagnoli) != binary.LittleEndian.Uint32(b[end:]) {`, `|| end < 0 {`}},
			tests: "TestDamageBytes",
		},
		{
			name: "group-table-unchecked", what: "the checksum of a journal group's table is not verified",
			edits: []edit{{"group.go", `if tableSum(b) != binary.LittleEndian.Uint32(b[56:]) {`, `if false {`}},
			tests: "TestDamageJournalAlone",
		},
		{
			name: "group-frame-unchecked", what: "the checksum of a frame in the journal is not verified",
			edits: []edit{{"group.go", `return end <= int64(len(b)) && crc32.Checksum(b[e.offset:end], castagnoli) == e.sum`, `return end <= int64(len(b))`}},
			tests: "TestDamageJournalEnd",
		},
		{
			name: "checkpoint-sum-unchecked", what: "the checksums of a checkpoint and its sections are not verified",
			edits: []edit{
				{"recovery.go", `crc32.Checksum(b, castagnoli) != ref.sum {`, `len(b) == 0 && crc32.Checksum(b, castagnoli) != ref.sum {`},
				{"image_decode.go", `return kind, body, crc32.Checksum(body, castagnoli) == binary.LittleEndian.Uint32(e[24:])`, `return kind, body, crc32.Checksum(body, castagnoli) != 0 || len(body) == 0`},
			},
			tests: "TestDamageOfAnyCheckpointByte",
		},
		{
			name: "older-slot-holds", what: "of two intact state slots the older one counts",
			edits: []edit{{"spacefile.go", `other.counter > first.counter`, `other.counter < first.counter`}},
			tests: "TestCrashLives",
		},
	}
}
