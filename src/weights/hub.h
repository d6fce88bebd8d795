/*
 * hub.h — files of a Hugging Face hub: hf:ORG/REPO[:FILE].
 */
#ifndef LEM_WEIGHTS_HUB_H
#define LEM_WEIGHTS_HUB_H

#include "weights/weights.h"

/* Gives the path of the file in the cache, downloading it first when it is not there. HF_ENDPOINT
 * names another hub, HF_TOKEN is sent to that host only, HF_HUB_OFFLINE=1 uses the cache alone. */
int hub_fetch(const struct weights_request *q, char **ret_path, struct lem_error *err);

/* The path in the cache when the name says which file and it is there already; else NULL. */
char *hub_path(const char *model_name); /* the same, there or not yet */
char *hub_cached(const char *model_name);

#endif
