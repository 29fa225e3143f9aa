/* expat, kept busy; see ../driver.h. */
#include "../driver.h"

#include "expat.h"

static const char document[] =
    "<?xml version='1.0' encoding='utf-8'?>\n"
    "<!DOCTYPE root [<!ELEMENT root (item*|(a,b)+)><!ELEMENT item ANY><!ATTLIST item kind (one|two) 'one' id ID #IMPLIED>\n"
    "<!ENTITY inner 'in<b>ner</b>'><!NOTATION n SYSTEM 'n'>]>\n"
    "<root xmlns='urn:default' xmlns:p='urn:p'><!-- comment --><?target data?>\n"
    "<item id='i1' p:attribute='&lt;v&#252;&gt;'>text &inner; <![CDATA[<raw>]]> \xc3\xbc\xe2\x82\xac\xf0\x9f\x98\x80</item>\n"
    "<p:item kind='two' a1='1' a2='2' a3='3' a4='4' a5='5'/><item>]]&gt;</item></root>\n";

static void XMLCALL on_start(void *data, const char *name, const char **attributes) {
    (void)data;
    note_text(name);
    for (; *attributes != NULL; attributes++) {
        note_text(*attributes);
    }
}

static void XMLCALL on_end(void *data, const char *name) {
    (void)data;
    note_text(name);
}

static void XMLCALL on_text(void *data, const char *text, int size) {
    (void)data;
    note(text, (size_t)size);
}

static void XMLCALL on_comment(void *data, const char *text) {
    (void)data;
    note_text(text);
}

static void XMLCALL on_instruction(void *data, const char *target, const char *text) {
    (void)data;
    note_text(target);
    note_text(text);
}

static void XMLCALL on_namespace(void *data, const char *prefix, const char *uri) {
    (void)data;
    note_text(prefix);
    note_text(uri);
}

static void note_model(const XML_Content *model) {
    note_number(model->type);
    note_number(model->quant);
    note_text(model->name);
    for (unsigned i = 0; i < model->numchildren; i++) {
        note_model(&model->children[i]);
    }
}

static void XMLCALL on_element(void *data, const char *name, XML_Content *model) {
    note_text(name);
    note_model(model);
    XML_FreeContentModel((XML_Parser)data, model);
}

static XML_Parser parser_for(const char *encoding, int namespaces) {
    XML_Parser parser = namespaces ? XML_ParserCreateNS(encoding, '|') : XML_ParserCreate(encoding);
    XML_SetHashSalt(parser, 1234567);
    XML_SetUserData(parser, parser);
    XML_SetElementHandler(parser, on_start, on_end);
    XML_SetCharacterDataHandler(parser, on_text);
    XML_SetCommentHandler(parser, on_comment);
    XML_SetProcessingInstructionHandler(parser, on_instruction);
    XML_SetStartNamespaceDeclHandler(parser, on_namespace);
    XML_SetElementDeclHandler(parser, on_element);
    return parser;
}

/* Parses in pieces of `step` bytes. */
static void parse(const char *text, size_t size, const char *encoding, int namespaces, size_t step) {
    XML_Parser parser = parser_for(encoding, namespaces);
    enum XML_Status status = XML_STATUS_OK;
    for (size_t done = 0; done < size && status == XML_STATUS_OK;) {
        size_t piece = size - done < step ? size - done : step;
        void *buffer = XML_GetBuffer(parser, (int)piece);
        memcpy(buffer, text + done, piece);
        done += piece;
        status = XML_ParseBuffer(parser, (int)piece, done == size);
    }
    note_number(status);
    note_number(XML_GetErrorCode(parser));
    note_text(XML_ErrorString(XML_GetErrorCode(parser)));
    note_number((long long)XML_GetCurrentLineNumber(parser));
    note_number((long long)XML_GetCurrentColumnNumber(parser));
    note_number(XML_GetCurrentByteIndex(parser));
    XML_ParserFree(parser);
}

/* The document in two bytes a letter; what is beyond ASCII is cut to a byte, which is right for a checksum. */
static void parse_utf16(void) {
    static char wide[2 * sizeof document + 2];
    size_t size = 0;
    wide[size++] = '\xff';
    wide[size++] = '\xfe';
    const char *body = strchr(document, '\n') + 1;
    for (; *body != 0; body++) {
        wide[size++] = *body;
        wide[size++] = 0;
    }
    parse(wide, size, "utf-16", 1, 100);
}

static void regression(void) {
    parse(document, sizeof document - 1, NULL, 1, 4096);
    parse(document, sizeof document - 1, NULL, 0, 61);
    parse(document, sizeof document - 1, "iso-8859-1", 1, 17);
    parse_utf16();
    static const char *const wrong[] = {
        "",           "<a>",       "<a></b>",           "<a b='1' b='2'/>",  "<a>&undefined;</a>", "<a><![CDATA[</a>",
        "<a/><b/>",   "text",      "<a b=1/>",          "<p:a/>",            "<a>\x01</a>",        "<a>&#0;</a>",
        "<!DOCTYPE a [<!ENTITY e '&e;'>]><a>&e;</a>", "<?xml version='1.0' encoding='none'?><a/>", "<a>]]></a>",
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        parse(wrong[i], strlen(wrong[i]), NULL, 1, 100);
    }
}

/* What a parser says in the end. */
static const char *result(XML_Parser parser, enum XML_Status status) {
    const char *text = status == XML_STATUS_OK ? "accepted" : numbered("error", XML_GetErrorCode(parser));
    XML_ParserFree(parser);
    return text;
}

static const char *parsed(const char *text, char separator) {
    XML_Parser parser = XML_ParserCreateNS(NULL, separator);
    return result(parser, XML_Parse(parser, text, (int)strlen(text), 1));
}

static const char *negative_length(void) {
    XML_Parser parser = XML_ParserCreate(NULL);
    XML_GetBuffer(parser, 10);
    return result(parser, XML_ParseBuffer(parser, -1, XML_TRUE));
}

static const char *stop_before_start(void) {
    XML_Parser parser = XML_ParserCreate(NULL);
    return result(parser, XML_StopParser(parser, XML_FALSE));
}

static int starts;

static void XMLCALL count_start(void *data, const char *name, const char **attributes) {
    (void)data, (void)name, (void)attributes;
    starts++;
}

/* A token of which little comes at a time was read from its start with every piece; now that waits until much more is there. */
static const char *token_in_pieces(void) {
    static char attribute[600];
    XML_Parser parser = XML_ParserCreate(NULL);
    XML_SetElementHandler(parser, count_start, NULL);
    memset(attribute, 'x', sizeof attribute);
    starts = 0;
    XML_Parse(parser, "<a b='", 6, 0);
    XML_Parse(parser, attribute, (int)sizeof attribute, 0);
    XML_Parse(parser, "'>", 2, 0);
    int at_once = starts;
    enum XML_Status status = XML_Parse(parser, "</a>", 4, 1);
    XML_ParserFree(parser);
    return status != XML_STATUS_OK || starts != 1 ? "wrong" : at_once ? "at-once" : "deferred";
}

/* An allocator that keeps what is freed until the end of a probe: what is freed twice can be counted, and with `poison` what is
 * still read of it is not what it was. */
enum { BLOCKS = 2000 };
static struct {
    void *blocks[BLOCKS];
    size_t sizes[BLOCKS];
    int freed[BLOCKS];
    int count, freed_twice, poison;
    /* The size of which an allocation fails; 0: none does. */
    size_t fails;
} heap;

static void *kept_malloc(size_t size) {
    if (heap.count == BLOCKS || (heap.fails != 0 && size == heap.fails)) {
        return NULL;
    }
    heap.sizes[heap.count] = size;
    heap.freed[heap.count] = 0;
    return heap.blocks[heap.count++] = malloc(size);
}

static int block_number(const void *block) {
    int number = heap.count - 1;
    while (number >= 0 && heap.blocks[number] != block) {
        number--;
    }
    return number;
}

static void kept_free(void *block) {
    int number = block_number(block);
    if (number < 0) {
        return;
    }
    heap.freed_twice += heap.freed[number]++ != 0;
    if (heap.poison) {
        memset(block, '#', heap.sizes[number]);
    }
}

static void *kept_realloc(void *block, size_t size) {
    void *made = kept_malloc(size);
    int number = block_number(block);
    if (made != NULL && number >= 0) {
        memcpy(made, block, heap.sizes[number] < size ? heap.sizes[number] : size);
        kept_free(block);
    }
    return made;
}

static XML_Parser parser_on_heap(int poison) {
    static const XML_Memory_Handling_Suite suite = {kept_malloc, kept_realloc, kept_free};
    memset(&heap, 0, sizeof heap);
    heap.poison = poison;
    return XML_ParserCreate_MM(NULL, &suite, NULL);
}

static void empty_heap(void) {
    while (heap.count > 0) {
        free(heap.blocks[--heap.count]);
    }
}

/* A buffer that is as large as can be counted, together with what stays of the one before larger than that. */
static const char *huge_buffer(void) {
    XML_Parser parser = XML_ParserCreate(NULL);
    XML_Parse(parser, "\n", 1, 0);
    void *buffer = XML_GetBuffer(parser, 0x7fffffff);
    XML_ParserFree(parser);
    return buffer != NULL ? "given" : "refused";
}

static int stack_used;

/* How much of the stack below here was written to since it was painted; the frames of both are of one size. */
static __attribute__((noinline)) int look_at_stack(int paint) {
    enum { SIZE = 500000 };
    volatile char bytes[SIZE];
    int untouched = 0;
    for (int i = SIZE - 1; paint && i >= 0; i--) {
        bytes[i] = 'P';
    }
    while (untouched < SIZE && bytes[untouched] == 'P') {
        untouched++;
    }
    return SIZE - untouched;
}

static void XMLCALL free_model(void *data, const char *name, XML_Content *model) {
    (void)name;
    XML_FreeContentModel((XML_Parser)data, model);
}

/* A declaration of groups within groups: its model was built by a function that called itself for each. */
static const char *deep_model(void) {
    enum { DEPTH = 3000 };
    static char text[2 * DEPTH + 100];
    static char open[DEPTH + 1], close[DEPTH + 1];
    memset(open, '(', DEPTH);
    memset(close, ')', DEPTH);
    snprintf(text, sizeof text, "<!DOCTYPE a [<!ELEMENT a %sb%s>]><a/>", open, close);
    XML_Parser parser = XML_ParserCreate(NULL);
    XML_SetUserData(parser, parser);
    XML_SetElementDeclHandler(parser, free_model);
    look_at_stack(1);
    enum XML_Status status = XML_Parse(parser, text, (int)strlen(text), 1);
    stack_used = look_at_stack(0);
    XML_ParserFree(parser);
    return status != XML_STATUS_OK ? "refused" : stack_used > 20 * DEPTH ? "deep" : "flat";
}

static void XMLCALL suspend_once(void *data, const char *text, int size) {
    (void)text, (void)size;
    XML_SetCharacterDataHandler((XML_Parser)data, NULL);
    XML_StopParser((XML_Parser)data, XML_TRUE);
}

static enum XML_Status parse_in_buffer(XML_Parser parser, const char *text, int size, int is_final) {
    char *buffer = XML_GetBuffer(parser, size);
    memset(buffer, ' ', (size_t)size);
    memcpy(buffer, text, strlen(text));
    return XML_ParseBuffer(parser, size, is_final);
}

/* A pause within an entity, then a tag, whose name has to be kept when the buffer becomes another one. */
static const char *pause_in_entity(void) {
    static const char start[] = "<!DOCTYPE a [<!ENTITY e 'text<i/>'>]><a>&e;<b>";
    XML_Parser parser = parser_on_heap(1);
    XML_SetUserData(parser, parser);
    XML_SetCharacterDataHandler(parser, suspend_once);
    enum XML_Status status = parse_in_buffer(parser, start, (int)sizeof start - 1, 0);
    if (status == XML_STATUS_SUSPENDED) {
        status = XML_ResumeParser(parser);
    }
    if (status == XML_STATUS_OK) {
        status = parse_in_buffer(parser, "</b></a>", 8000, 1);
    }
    const char *answer = result(parser, status);
    empty_heap();
    return answer;
}

/* No memory for the copy of an encoding's name. */
static int XMLCALL fail_to_open(XML_Parser parser, const char *context, const char *base, const char *file, const char *id) {
    static const char encoding[] = "UTF-8";
    (void)base, (void)file, (void)id;
    heap.fails = sizeof encoding;
    XML_Parser inner = XML_ExternalEntityParserCreate(parser, context, encoding);
    heap.fails = 0;
    if (inner != NULL) {
        XML_ParserFree(inner);
    }
    return XML_STATUS_ERROR;
}

/* What a parser for an external entity shares with the one that it is for is that one's to free. */
static const char *entity_short_of_memory(void) {
    static const char text[] = "<!DOCTYPE a SYSTEM 'b'><a/>";
    XML_Parser parser = parser_on_heap(0);
    XML_SetParamEntityParsing(parser, XML_PARAM_ENTITY_PARSING_ALWAYS);
    XML_SetExternalEntityRefHandler(parser, fail_to_open);
    XML_Parse(parser, text, (int)sizeof text - 1, 1);
    XML_ParserFree(parser);
    empty_heap();
    return heap.freed_twice > 0 ? "freed-twice" : "freed-once";
}

static const char *probe(const char *name) {
    static const struct {
        const char *name;
        const char *(*show)(void);
    } probes[] = {
        {"token-in-pieces", token_in_pieces},
        {"negative-length", negative_length},
        {"stop-before-start", stop_before_start},
        {"huge-buffer", huge_buffer},
        {"deep-model", deep_model},
        {"pause-in-entity", pause_in_entity},
        {"entity-short-of-memory", entity_short_of_memory},
    };
    if (strcmp(name, "separator-in-uri") == 0) {
        return parsed("<a xmlns='one|two'/>", '|');
    }
    if (strcmp(name, "invalid-utf8") == 0) {
        /* A sequence of two bytes whose second one has a bit too few. */
        return parsed("<a\xdb\x25></a\xdb\x25>", '|');
    }
    for (size_t i = 0; i < sizeof probes / sizeof *probes; i++) {
        if (strcmp(name, probes[i].name) == 0) {
            return probes[i].show();
        }
    }
    return "unknown";
}
