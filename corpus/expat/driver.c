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

static const char *probe(const char *name) {
    if (strcmp(name, "token-in-pieces") == 0) {
        return token_in_pieces();
    }
    if (strcmp(name, "separator-in-uri") == 0) {
        return parsed("<a xmlns='one|two'/>", '|');
    }
    if (strcmp(name, "invalid-utf8") == 0) {
        /* A sequence of two bytes whose second one has a bit too few. */
        return parsed("<a\xdb\x25></a\xdb\x25>", '|');
    }
    if (strcmp(name, "negative-length") == 0) {
        return negative_length();
    }
    if (strcmp(name, "stop-before-start") == 0) {
        return stop_before_start();
    }
    return "unknown";
}
