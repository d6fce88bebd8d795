/*
 * node.h — a configuration file as a tree, every node with its place. Nodes live in an arena and
 * are never changed once a tree is complete: moving, merging and aliasing copy.
 */
#ifndef LEM_CONFIG_NODE_H
#define LEM_CONFIG_NODE_H

#include "base/arena.h"
#include "base/str.h"

enum source { SOURCE_DEFAULT, SOURCE_PRESET, SOURCE_FILE, SOURCE_CLI };

/* Where nodes come from: one file, one preset, one --set. */
struct layer {
	enum source source;
	const char *file;   /* SOURCE_FILE: as messages name it */
	const char *detail; /* "preset vllm-throughput", "--set gpus=[0]" */
	int order;          /* of findings: the user's file first */
};

enum node_kind { NODE_SCALAR, NODE_LIST, NODE_MAP };

struct node {
	enum node_kind kind;
	bool plain;          /* a scalar without quotes: may be a number, a boolean, null */
	const char *key;     /* in a map, else NULL */
	const char *written; /* the old path it was moved from; NULL: stands where it was written */
	const char *text;    /* of a scalar */
	int line, column;    /* 1-based, of the key if there is one; 0 unknown */
	const struct layer *layer;
	struct node *first, *last, *next; /* children, in order */
	size_t n;                         /* of children */
};

#define node_foreach(map, child) \
	for (const struct node *child = (map)->first; child; child = child->next)

struct node *node_new(struct arena *a, enum node_kind kind, const struct layer *layer);
void node_append(struct node *parent, struct node *child);
const struct node *node_get(const struct node *map,
			    const char *key); /* NULL: not there, not a map */
const struct node *node_at(const struct node *root, const char *dotted);
/* A copy without its `next`; stops (and returns NULL) when *budget nodes are used up. */
struct node *node_copy(struct arena *a, const struct node *n, size_t *budget);
/* Maps merge key by key, everything else of `over` replaces; neither input is changed. */
struct node *node_merge(struct arena *a, const struct node *base, const struct node *over);

/* What a plain scalar means, by the YAML 1.2 core schema. */
enum scalar_kind {
	SCALAR_NULL,
	SCALAR_BOOL,
	SCALAR_INT,       /* decimal, fits int64 */
	SCALAR_FLOAT,     /* finite */
	SCALAR_NONFINITE, /* .nan, .inf, 1e999 */
	SCALAR_TEXT,
};
enum scalar_kind scalar_kind(const struct node *n);
bool scalar_is_null(const struct node *n);
/* Also yes, no, on and off, as YAML 1.1 (PyYAML) has them. */
bool scalar_bool(const struct node *n, bool *ret);

/* "4", "true", "\"text\"", "a list", "a map": for messages, cut when long. */
const char *node_show(struct arena *a, const struct node *n);
void node_json(const struct node *n, struct str *out);

#endif
