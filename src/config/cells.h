/*
 * cells.h — which experiments a file given to `lem campaign` holds. Three kinds of files:
 *
 *   an experiment: one cell
 *
 *   a list of overrides, each merged over the rest of the file (lists are replaced):
 *     model_name: meta-llama/Llama-3.1-8B
 *     prompts: {type: file, path: p.txt}
 *     experiments:
 *       - {backend: vllm, gpus: [0]}
 *       - {backend: vllm, gpus: [0, 1], vllm.tensor_parallel_size: 2}
 *
 *   a campaign file of the predecessor, as far as it means just that; its io.results_dir holds for
 *   all of them:
 *     campaign_name: two
 *     configs: [a.yaml, b.yaml]                 # beside this file
 *     experiments: [{config: a.yaml, overrides: {decoder: {temperature: 0}}}]
 *     io: {results_dir: out}
 *
 * Files of their own take nothing else from the campaign file; where both kinds stand in it, the
 * rest of the file is the base of the overrides alone. Cells come in the order in which they are
 * written.
 *
 * Grids, cycles, order and the like are refused by name, not ignored (C24).
 */
#ifndef LEM_CONFIG_CELLS_H
#define LEM_CONFIG_CELLS_H

#include "config/load.h"

enum { CONFIG_MAX_CELLS = 1000 };

struct config_cells; /* opaque; must outlive the configs that are loaded from it */

/* Always gives an answer when it returns 0, also with findings of severity error. */
int config_cells_read(const char *path, struct config_cells **ret, struct lem_error *err);
void config_cells_free(struct config_cells *cells); /* NULL is fine */

size_t config_cells_n(const struct config_cells *cells);   /* give one as config_request.cell */
bool config_cells_plain(const struct config_cells *cells); /* the file is an experiment */
const char *config_cells_name(const struct config_cells *cells); /* campaign_name; may be NULL */
const struct finding_list *config_cells_findings(const struct config_cells *cells);

#endif
