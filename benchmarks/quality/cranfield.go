package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/engramdb/engram"
)

const cranfieldSpace engram.SpaceID = "cranfield"

// Sections of a record of the collection that are read; the author (A) and the
// source (B) are not.
const (
	cranfieldTitle = 'T'
	cranfieldWords = 'W'
)

// cranfieldRecord is a document or a query: its number and its sections.
type cranfieldRecord struct {
	id       string
	sections map[byte]string
}

func readCranfield(dir string) (collection, error) {
	var files [3]*os.File
	defer func() {
		for _, file := range files {
			if file != nil {
				file.Close() //nolint:errcheck // nothing was written
			}
		}
	}()
	for i, name := range []string{"cran.all.1400", "cran.qry", "cranqrel"} {
		file, err := os.Open(filepath.Join(dir, "cranfield", name))
		if err != nil {
			return collection{}, err
		}
		files[i] = file
	}
	return parseCranfield(files[0], files[1], files[2])
}

// parseCranfield reads the documents into one collection. A document without
// words cannot be remembered, and stays missing where it answers a query.
func parseCranfield(documents, queries, judgements io.Reader) (collection, error) {
	documentRecords, err := parseCranfieldRecords(documents)
	if err != nil {
		return collection{}, fmt.Errorf("documents of Cranfield: %w", err)
	}
	queryRecords, err := parseCranfieldRecords(queries)
	if err != nil {
		return collection{}, fmt.Errorf("queries of Cranfield: %w", err)
	}
	relevant, err := parseCranfieldJudgements(judgements)
	if err != nil {
		return collection{}, fmt.Errorf("judgements of Cranfield: %w", err)
	}
	c := collection{space: cranfieldSpace}
	for _, record := range documentRecords {
		if content := record.content(); content != "" {
			c.memories = append(c.memories, engram.Memory{ID: record.id, Content: content})
		}
	}
	for i, record := range queryRecords {
		// The judgements count the queries from 1; the queries' own numbers have gaps.
		if gold := relevant[i+1]; len(gold) > 0 {
			text := strings.Join(strings.Fields(record.sections[cranfieldWords]), " ")
			c.questions = append(c.questions, question{text: text, gold: gold, groups: []string{groupAll}})
		}
	}
	return c, nil
}

// content is the title and the abstract. Most abstracts repeat the title as
// their first sentence; it is kept once.
func (r cranfieldRecord) content() string {
	title := strings.TrimSpace(r.sections[cranfieldTitle])
	words := strings.TrimSpace(r.sections[cranfieldWords])
	if words == "" || strings.HasPrefix(words, title) {
		return words
	}
	return title + "\n" + words
}

// parseCranfieldRecords reads records of the form
//
//	.I 1
//	.T
//	title, over several lines
//	.W
//	text, over several lines
func parseCranfieldRecords(r io.Reader) ([]cranfieldRecord, error) {
	var records []cranfieldRecord
	var section byte
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		line := strings.TrimSuffix(lines.Text(), "\r")
		if number, isStart := strings.CutPrefix(line, ".I "); isStart {
			id := strings.TrimSpace(number)
			if _, err := strconv.Atoi(id); err != nil {
				return nil, fmt.Errorf("record number: %w", err)
			}
			records = append(records, cranfieldRecord{id: id, sections: map[byte]string{}})
			section = 0
			continue
		}
		if len(line) == 2 && line[0] == '.' && 'A' <= line[1] && line[1] <= 'Z' {
			section = line[1]
			continue
		}
		if len(records) == 0 {
			return nil, errors.New("text before the first record")
		}
		if section != 0 {
			records[len(records)-1].sections[section] += line + "\n"
		}
	}
	return records, lines.Err()
}

// parseCranfieldJudgements returns the relevant documents of each query. Every
// code from 1 (a complete answer) to 4 (of minimum interest) counts as relevant,
// alike: figures are binary. Each query also has one document with the code -1,
// which the collection's scale does not have; it is no judgement and left out.
func parseCranfieldJudgements(r io.Reader) (map[int]map[string]bool, error) {
	relevant := map[int]map[string]bool{}
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		var query, document, code int
		if _, err := fmt.Sscan(lines.Text(), &query, &document, &code); err != nil {
			return nil, fmt.Errorf("%q: %w", lines.Text(), err)
		}
		if code < 1 || code > 4 {
			continue
		}
		if relevant[query] == nil {
			relevant[query] = map[string]bool{}
		}
		relevant[query][strconv.Itoa(document)] = true
	}
	return relevant, lines.Err()
}
